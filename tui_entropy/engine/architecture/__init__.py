"""The parts of a model: where it keeps its blocks, norm, heads and state; found by structure."""
