"""LLaVA-OneVision."""
