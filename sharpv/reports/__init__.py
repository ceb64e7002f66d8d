"""Tables and statistics made from stored runs alone: no torch, no transformers, no lmms-eval."""
