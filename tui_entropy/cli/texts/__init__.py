"""The commands for texts by the hundred."""

from tui_entropy.cli.texts import perplexity

__all__ = ["perplexity"]
