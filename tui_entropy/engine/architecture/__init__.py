"""Where a model keeps its blocks, norm, heads and state; found by structure."""
