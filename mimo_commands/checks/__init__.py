"""Commands of mimo-check that are not of one file and its reference."""
