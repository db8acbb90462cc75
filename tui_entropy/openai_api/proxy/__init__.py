"""A proxy: requests pass to another server as they are, and an engine is told of them."""
