"""Lenses: a vector from inside the model read as tokens, by the model's own head or through a map to it."""
