"""A decode step as a CUDA graph holds it, or called where there are no graphs."""
