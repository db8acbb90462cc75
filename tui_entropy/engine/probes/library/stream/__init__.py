"""Probes of the residual stream: what layers would say, what parts of the model wrote, and states put elsewhere."""
