"""Decomposition: what each block adds to the residual stream, part by part, in sums that are exact."""
