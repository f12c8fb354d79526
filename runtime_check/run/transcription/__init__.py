"""Clips become text: runs of a prompt and a greedy response, of clips of any length."""
