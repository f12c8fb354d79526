"""Statistics of agreement: from answers to error rates with intervals, the Pareto front, and a verdict."""
