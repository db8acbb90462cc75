"""Control vectors: arithmetic, files, training, and the hooks that add them."""
