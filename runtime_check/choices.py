"""Choices of command-line options, importable without the code that they select."""

AUTO, ON, OFF = "auto", "on", "off"
REPACK = (AUTO, ON, OFF)
REFERENCE_DTYPES = ("f32", "bf16")
TRANSCRIPTS = ("text", "srt", "json", "tsv")  # formats
