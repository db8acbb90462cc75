"""What doctor found can be kept, read again where it still holds, and shown."""

import io
import json
import math

import pytest
from msgspec.structs import replace
from rich.console import Console

from tui_entropy.core import paths
from tui_entropy.engine.reliability import report
from tui_entropy.engine.reliability.report import Check, Cost, Report
from tui_entropy.records.model import ModelCard

CARD = ModelCard(
    name="acme/[bold]tiny", revision="main", source="", note="", device="cpu", dtype="float32", n_layers=1, n_heads=1,
    n_kv_heads=1, d_model=4, vocab=9, context=8, layer_kinds=("full",), windows=(None,), attention=(True,),
    has_chat_template=False, versions={"torch": "2.13"},
)  # fmt: skip
GOOD = Check("head entropies", "heads", "the probe against eager rows", "nats", 2e-6, 5e-5)
BAD = Check("last lens row", "residual", "unembedded residual against logits", "logits", 0.5, 1e-4)
PASSED_OVER = Check("revisited step", "logits", "again against before", "logits", skipped="a [linear] cache")


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "state", lambda: tmp_path)


def report_of(*checks: Check, costs: tuple[Cost, ...] = ()) -> Report:
    return Report(
        CARD.name, CARD.revision, CARD.device, CARD.dtype, report.machine(), CARD.versions, "2025-01-02 03:04", 32,
        checks, costs,
    )  # fmt: skip


def printed(found: Report) -> str:
    console = Console(width=report.WIDTH, file=io.StringIO())
    console.print(report.tables(found))
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("worst", "bound", "verdict"),
    [(0.0, 0.0, "pass"), (1.0, 1.0, "pass"), (1.1, 1.0, "fail"), (math.nan, 1.0, "fail"), (math.inf, 1.0, "fail")],
)
def test_a_check_passes_up_to_its_bound_and_what_is_not_a_number_fails(worst, bound, verdict):
    check = replace(GOOD, worst=worst, bound=bound)
    assert check.verdict == verdict and report_of(GOOD, check).passed is (verdict == "pass")


def test_what_was_skipped_fails_nothing():
    assert PASSED_OVER.verdict == "skipped" and report_of(GOOD, PASSED_OVER).passed


def test_a_report_is_read_as_it_was_kept():
    found = report_of(GOOD, BAD, PASSED_OVER, costs=(Cost("head grid", 0.002, 0.001, 512.0),))
    assert report.load_report(CARD) is None
    report.save(found, CARD)
    assert report.load_report(CARD) == found


@pytest.mark.parametrize("field", ["name", "revision", "device", "dtype"])
def test_each_model_revision_device_and_dtype_has_a_report_of_its_own(field):
    report.save(report_of(GOOD), CARD)
    assert report.load_report(replace(CARD, **{field: "other"})) is None


def test_a_report_of_other_versions_or_of_another_machine_is_not_believed(monkeypatch):
    report.save(report_of(GOOD), CARD)
    assert report.load_report(replace(CARD, versions={"torch": "2.14"})) is None
    monkeypatch.setattr(report, "machine", lambda: "elsewhere")
    assert report.load_report(CARD) is None


def test_a_damaged_report_is_none_at_all():
    path = report.save(report_of(GOOD), CARD)
    path.write_bytes(path.read_bytes()[:-20])
    assert report.load_report(CARD) is None


def test_json_carries_every_verdict_and_a_number_that_is_none_still_fails_when_read():
    found = report_of(GOOD, replace(BAD, worst=math.nan))
    plain = json.loads(report.as_json(found))
    assert [check["verdict"] for check in plain["checks"]] == ["pass", "fail"] and plain["passed"] is False
    report.save(found, CARD)
    assert report.load_report(CARD).passed is False


def test_the_tables_show_names_numbers_verdicts_and_reasons_as_they_are():
    shown = printed(report_of(GOOD, BAD, PASSED_OVER, costs=(Cost("attention rows", 0.0005, 0.0001, per="request"),)))
    assert "acme/[bold]tiny" in shown and "a [linear] cache" in shown
    rows = {line.split("  ")[0].strip(): line.split() for line in shown.splitlines()}
    assert rows["head entropies"][-4:] == ["2e-06", "5e-05", "nats", "pass"]
    assert rows["last lens row"][-4:] == ["0.5", "0.0001", "logits", "fail"]
    assert rows["attention rows"][-3:] == ["0.500", "0.100", "request"]
    assert "1 pass, 1 fail, 1 skipped" in shown


def test_what_every_step_does_is_added_up_and_what_is_asked_for_is_not():
    costs = (
        Cost("plain", 0.010, 0.001, 1024.0),
        Cost("heads", 0.002, None, 512.0),
        Cost("rows", 5.0, per="request"),
        Cost("none"),
    )
    last = [line for line in printed(report_of(costs=costs)).splitlines() if "all that each step does" in line]
    assert last[0].split()[-3:] == ["12.000", "step", "1.50"]
