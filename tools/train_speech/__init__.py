"""Teach the tiny checkpoint pair to speak: `python -m tools.train_speech`."""
