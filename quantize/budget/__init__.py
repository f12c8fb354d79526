"""A candidate for each item under a budget: least total cost, total size within the budget. Knows no type, no tensor."""
