"""The trust in each group of numbers on a model: by construction, and by what doctor found."""

from __future__ import annotations

from tui_entropy.engine.architecture.architecture import Architecture
from tui_entropy.engine.instruments.attention import AttentionInstrument
from tui_entropy.engine.reliability.report import FAIL, IN_DTYPE, NOTED, PASS, Check, Report
from tui_entropy.metrics.registry import METRICS
from tui_entropy.records.model import TRUSTED, ModelCard, Trust
from tui_entropy.stages.registry import ORDERS

NO_ATTENTION = "no block has softmax attention whose rows can be had"
STAGES = (*ORDERS["hf"], "banned", "forced", "adaptive")
"""Of the sampling chain, with those that no knob of the order switches on."""
NUMBERS = (*(f"series {metric.name}" for metric in METRICS), *(f"stage {stage}" for stage in STAGES))
"""What has a mark of its own, as `Check.proves` names it."""
UNPROVEN = "by construction; `tui-entropy doctor` proves it on this machine"


def trust(architecture: Architecture, card: ModelCard, report: Report | None) -> dict[str, Trust]:
    """Group (of TRUSTED) -> what its numbers are worth, and each of NUMBERS that is worth something else. report: of
    this model, machine and these versions."""
    groups = {group: missing(group, architecture) or trust_of_group(group, card.dtype, report) for group in TRUSTED}
    there = {group for group, each in groups.items() if each.level != "unavailable"}
    return groups if report is None else groups | of_numbers(report, there)


def of_numbers(report: Report, groups: set[str]) -> dict[str, Trust]:
    """The trust in those of NUMBERS that doctor found wrong or had no second way to. groups: that are there."""
    trusts: dict[str, Trust] = {}
    for name in NUMBERS:
        checks = [check for check in report.checks if name in check.proves]
        if checks and not any(check.group in groups for check in checks):
            continue
        if failed := [check for check in checks if check.verdict == FAIL]:
            trusts[name] = Trust("approximate", f"doctor found {off(failed[0])} on {report.at}")
        elif not any(check.verdict == PASS for check in checks):
            why = checks[0].skipped if checks else "doctor had no second way to it"
            trusts[name] = Trust("unchecked", f"no check: {why}")
    return trusts


def missing(group: str, architecture: Architecture) -> Trust | None:
    """Why a model has no such numbers; None where it has."""
    if group in ("heads", "attention"):
        layers = AttentionInstrument(architecture, keep=0).layers
        if not layers:
            return Trust("unavailable", NO_ATTENTION)
        if group == "attention" and not any(layer.holds_keys for layer in layers):
            return Trust("unavailable", "this model keeps its keys compressed")
    return None


def trust_of_group(group: str, dtype: str, report: Report | None) -> Trust:
    """The trust by what doctor found, or else by construction: float32 is taken as exact, smaller types are not."""
    level = "exact" if dtype == "float32" else "approximate"
    rounded = "" if level == "exact" else f"computed in {dtype}; "
    checks = [check for check in report.checks if check.group == group] if report else []
    if failed := [check for check in checks if check.verdict == FAIL]:
        assert report
        return Trust("approximate", f"{rounded}doctor found {off(failed[0])} on {report.at}")
    passed = [check for check in checks if check.verdict == PASS]
    if not passed or report is None:
        return Trust(level, f"{rounded}{UNPROVEN}")
    nearest = max(passed, key=lambda check: (check.name == IN_DTYPE, (check.worst or 0) / (check.bound or 1)))
    gap = f"off by at most {nearest.worst:.2g} {nearest.unit}" if nearest.worst else "without a difference"
    noted = "".join(f"; {check.note}" for check in checks if check.verdict == NOTED)
    return Trust(level, f"{rounded}proven on this machine on {report.at}: {nearest.name} {gap}{noted}")


def off(check: Check) -> str:
    """'attention rows off by 0.31 share, 1.5e-05 allowed'."""
    if check.worst is None or check.bound is None:
        return f"{check.name} not a number"
    return f"{check.name} off by {check.worst:.2g} {check.unit}, {check.bound:.2g} allowed"
