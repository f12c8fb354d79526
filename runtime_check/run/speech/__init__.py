"""Systems that speak: their tasks, and what they generate compared with a reference."""
