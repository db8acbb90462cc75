"""The sources of a model's files: the catalogue, the hub, a download, a GGUF file."""
