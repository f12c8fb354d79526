"""Conditions of speech: noise, reverberation and speed, seeded, so that every run hears the same."""
