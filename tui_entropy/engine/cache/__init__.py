"""What a run keeps between tokens: its sequence and the KV cache under it."""
