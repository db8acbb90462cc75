"""What is read off a pass: attention, the residual stream, metrics, prompt scores."""
