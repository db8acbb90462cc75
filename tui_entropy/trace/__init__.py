"""The file of a session: written, read back, read lazily, recovered, listed and played back."""
