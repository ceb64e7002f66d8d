"""Profiling of pruners: what scripts/profile.py runs."""
