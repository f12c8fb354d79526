"""How fast files run: a whole system, and what repacked weights save."""
