"""The KV cache that a run keeps between tokens, and what is kept beside it."""
