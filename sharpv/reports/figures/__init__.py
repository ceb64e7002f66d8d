"""Figures made from stored runs and video files alone: matplotlib, no torch."""
