"""Where a model's files come from: the catalogue, the hub, a download, a GGUF file."""
