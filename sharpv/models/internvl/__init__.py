"""InternVL3 and InternVL3.5."""
