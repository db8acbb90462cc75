"""A run without a screen."""
