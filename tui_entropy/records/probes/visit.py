"""A visit: the probe that has a token's step as if it were written just now, as both ends know it."""

VISIT = "visit"
"""The name of the probe."""
