"""Replay functions of the golden files, one module a family of methods; `CASES` names the directory of each."""
