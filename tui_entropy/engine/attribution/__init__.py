"""Which parts of a model, and which tokens of a text, a logit came of."""
