"""A debugger for text generation that lives in a terminal.

From Python: the names below, each brought in when it is asked for, so that to import this package costs next to
nothing. Everything that they do not list is private and may change.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tui_entropy.analysis.corpus.analyze import AnalysisRun, run_analysis
    from tui_entropy.api.answers import Answer, Panel
    from tui_entropy.api.drawing import Drawing
    from tui_entropy.api.grading import Grading, run_grading
    from tui_entropy.api.inspector import Inspector
    from tui_entropy.api.run import Run
    from tui_entropy.api.run_data import RunData
    from tui_entropy.api.runs import Runs, load_trace
    from tui_entropy.core.errors import UserError
    from tui_entropy.records.model import ModelSpec
    from tui_entropy.records.sampling import Knobs
    from tui_entropy.records.settings import Vector
    from tui_entropy.records.step import Candidate, Step

__version__ = "0.1.0"

_HOMES = {
    "AnalysisRun": "analysis.corpus.analyze",
    "Answer": "api.answers",
    "Candidate": "records.step",
    "Drawing": "api.drawing",
    "Grading": "api.grading",
    "Inspector": "api.inspector",
    "Knobs": "records.sampling",
    "ModelSpec": "records.model",
    "Panel": "api.answers",
    "Run": "api.run",
    "RunData": "api.run_data",
    "Runs": "api.runs",
    "Step": "records.step",
    "UserError": "core.errors",
    "Vector": "records.settings",
    "load_trace": "api.runs",
    "run_analysis": "analysis.corpus.analyze",
    "run_grading": "api.grading",
}
"""A public name -> the module that it is in."""

__all__ = [
    "AnalysisRun", "Answer", "Candidate", "Drawing", "Grading", "Inspector", "Knobs", "ModelSpec", "Panel", "Run",
    "RunData", "Runs", "Step", "UserError", "Vector", "__version__", "load_trace", "run_analysis", "run_grading",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
