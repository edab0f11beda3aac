"""A training run, from what was asked for to its last model."""
