"""A loaded model, and one pass through it."""
