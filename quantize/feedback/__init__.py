"""Error feedback: codes that make up for one another's errors, under second moments of what a matrix is multiplied with."""
