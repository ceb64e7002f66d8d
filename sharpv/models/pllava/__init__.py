"""PLLaVA."""
