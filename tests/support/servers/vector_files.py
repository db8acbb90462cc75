"""Vectors for a server that is steered, without files."""

import numpy as np

from tui_entropy.core.errors import UserError


class Files:
    """Vectors by the name of their file."""

    def __init__(self, **vectors):
        self.vectors = {f"{name}.gguf": Read(name, held) for name, held in vectors.items()}

    def load(self, path):
        if str(path) not in self.vectors:
            raise UserError(f"there is no file {path}")
        return self.vectors[str(path)]

    def built_in(self, card):
        return []


class Read:
    hash = "abc"

    def __init__(self, name, directions):
        self.name, self.directions = name, directions


def direction(value=1.0, width=8):
    return np.full(width, value, np.float32)
