"""Fuzzing: every parser of the commands is given files that somebody damaged on purpose, millions of them if need be."""
