"""The commands for texts by the hundred."""

from tui_entropy.cli.texts import analyze, grade, perplexity, results

__all__ = ["analyze", "grade", "perplexity", "results"]
