"""How far each group of numbers can be believed on a model: by construction, and by what doctor found."""

from __future__ import annotations

from tui_entropy.engine.anatomy import Anatomy
from tui_entropy.engine.attention import AttentionProbe
from tui_entropy.records import TRUSTED, ModelCard, Trust
from tui_entropy.report import FAIL, IN_DTYPE, PASS, Check, Report

NO_ATTENTION = "no block has softmax attention whose rows can be had"
UNPROVEN = "by construction; `tui-entropy doctor` proves it on this machine"


def trust(anatomy: Anatomy, card: ModelCard, report: Report | None) -> dict[str, Trust]:
    """Group (of TRUSTED) -> what its numbers are worth. report: of this model, machine and these versions."""
    return {group: missing(group, anatomy) or judged(group, card.dtype, report) for group in TRUSTED}


def missing(group: str, anatomy: Anatomy) -> Trust | None:
    """Why a model has no such numbers; None where it has."""
    if group in ("heads", "attention"):
        layers = AttentionProbe(anatomy, keep=0).layers
        if not layers:
            return Trust("unavailable", NO_ATTENTION)
        if group == "attention" and not any(layer.holds_keys for layer in layers):
            return Trust("unavailable", "this model keeps its keys compressed")
    return None


def judged(group: str, dtype: str, report: Report | None) -> Trust:
    """What doctor found, or what holds by construction: float32 is taken as exact, smaller types are not."""
    level = "exact" if dtype == "float32" else "approximate"
    rounded = "" if level == "exact" else f"computed in {dtype}; "
    checks = [check for check in report.checks if check.group == group] if report else []
    if failed := [check for check in checks if check.verdict == FAIL]:
        assert report
        return Trust("approximate", f"{rounded}doctor found {off(failed[0])} on {report.at}")
    passed = [check for check in checks if check.verdict == PASS]
    if not passed or report is None:
        return Trust(level, f"{rounded}{UNPROVEN}")
    told = max(passed, key=lambda check: (check.name == IN_DTYPE, (check.worst or 0) / (check.bound or 1)))
    gap = f"off by at most {told.worst:.2g} {told.unit}" if told.worst else "without a difference"
    return Trust(level, f"{rounded}proven on this machine on {report.at}: {told.name} {gap}")


def off(check: Check) -> str:
    """'attention rows off by 0.31 share, 1.5e-05 allowed'."""
    if check.worst is None or check.bound is None:
        return f"{check.name} not a number"
    return f"{check.name} off by {check.worst:.2g} {check.unit}, {check.bound:.2g} allowed"
