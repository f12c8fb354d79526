"""A command: what it shows, and how it ends."""
