"""Pruning methods, one file each; a method knows `sharpv.tokens` and nothing of any model library."""
