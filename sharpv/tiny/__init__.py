"""The bundled model and what it is trained and tested on."""

from pathlib import Path

CHECKPOINT = Path(__file__).parent / "checkpoint"
"""Here, so that who asks for the place imports no transformers."""
