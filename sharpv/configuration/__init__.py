"""From configuration files to objects: models, pruners, rows."""
