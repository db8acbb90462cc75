"""Comparison: two models, or one under two settings, over the same texts."""
