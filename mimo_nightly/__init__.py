"""Nightly runs: regression monitoring of published files."""
