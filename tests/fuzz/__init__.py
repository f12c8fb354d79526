"""Fuzzing: every parser of the commands is given files that were damaged on purpose, as many as there is time for."""
