"""A recorded session gone on with: its runs as they were left, and what of model and vectors is another by now."""
