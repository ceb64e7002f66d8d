"""One file per `python run.py X`."""
