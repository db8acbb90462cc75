"""Reads off a pass: attention, the residual stream, metrics, prompt scores."""
