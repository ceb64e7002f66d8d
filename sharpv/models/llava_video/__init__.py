"""LLaVA-Video."""
