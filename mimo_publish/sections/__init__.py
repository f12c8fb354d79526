"""Sections of a model card: the choice of a file, stages, plots, transcripts, metadata."""
