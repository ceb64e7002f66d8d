"""One HTML page of every answer."""
