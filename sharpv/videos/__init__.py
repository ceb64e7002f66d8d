"""From video files to frames."""
