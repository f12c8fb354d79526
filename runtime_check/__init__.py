"""Validation engines: lint, row-by-row comparison, runs compared stage by stage. This layer knows no model."""
