"""The findings of doctor on a model, kept, and what follows for every number."""
