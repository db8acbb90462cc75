"""What doctor found of a model, kept, and what follows for every number."""
