"""The page of agreement, and its plots."""
