"""The screen. Textual reads these once, when it is first imported, so they stand before any import of it."""

import os

os.environ.setdefault("TEXTUAL_FPS", "240")  # a key waits for the next frame: at 60 that is up to 16 ms
os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
os.environ.setdefault("TEXTUAL_SMOOTH_SCROLL", "0")
