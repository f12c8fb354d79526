"""How many of its sentences the tiny pair says: `python -m benchmarks.tiny_speaks` → docs/benchmarks.md."""
