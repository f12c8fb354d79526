"""A type for each tensor under a byte budget: what each type does to the output, measured, and the choice."""
