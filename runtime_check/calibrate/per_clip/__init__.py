"""Sums of each clip by itself, wherever it is run, and how they become those of all clips."""
