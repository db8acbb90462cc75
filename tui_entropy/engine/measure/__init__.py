"""A step's tensors to its record, and the record judged by those before it."""
