"""The commands for texts by the hundred."""

from tui_entropy.cli.texts import analyze, perplexity, results

__all__ = ["analyze", "perplexity", "results"]
