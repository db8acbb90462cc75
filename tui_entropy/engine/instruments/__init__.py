"""Instruments that read a pass: attention, the residual stream, metrics, prompt scores."""
