"""The inside of a model behind vLLM with the plugin vllm-lens: measured there while it writes, and steered."""
