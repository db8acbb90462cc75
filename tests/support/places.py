"""Where things are in this repository."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FAKE_ENGINE = ROOT / "tests" / "support" / "engines" / "fake_engine.py"
"""A command of `[sys.executable, FAKE_ENGINE]` is an engine with made-up numbers."""
SUPPORT = [ROOT / "tests" / "support", *sorted((ROOT / "tests" / "support").glob("[a-z]*/"))]
"""Folders of what tests share, to be put on sys.path; pytest has them from pyproject.toml."""
