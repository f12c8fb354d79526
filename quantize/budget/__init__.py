"""A candidate for each item under a budget: least total cost, total size within it. Knows no type, no tensor."""
