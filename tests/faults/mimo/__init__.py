"""Defects of MiMo: of its files, and of its harness."""
