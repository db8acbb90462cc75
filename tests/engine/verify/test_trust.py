"""What is said of each group of numbers when a model is loaded."""

from dataclasses import replace as with_parts

import small
from msgspec.structs import replace
from torch import nn

from tui_entropy.core import paths
from tui_entropy.engine.loading.loader import load
from tui_entropy.engine.reliability import report
from tui_entropy.engine.reliability.report import IN_DTYPE, Check, Report
from tui_entropy.engine.reliability.trust import trust
from tui_entropy.records.model import TRUSTED, ModelSpec

LOADED = small.loaded()
HALF = replace(LOADED.card, dtype="bfloat16")


def check(
    group: str, worst: float | None, bound: float | None = 1e-4, name: str = "compared", skipped: str = ""
) -> Check:
    return Check(name, group, "this against that", "nats", worst, bound, skipped)


def found(*checks: Check) -> Report:
    card = LOADED.card
    return Report(
        card.name, card.revision, card.device, card.dtype, report.machine(), card.versions, "2025-01-02 03:04", 32,
        checks, (),
    )  # fmt: skip


def test_float32_is_exact_by_construction_and_it_is_told_that_nobody_looked():
    trusts = trust(LOADED.architecture, LOADED.card, None)
    assert set(trusts) == set(TRUSTED)
    assert {each.level for each in trusts.values()} == {"exact"}
    assert all("doctor" in each.reason and "by construction" in each.reason for each in trusts.values())


def test_smaller_dtypes_are_approximate_even_where_everything_passed():
    logits = trust(LOADED.architecture, HALF, None)["logits"]
    assert logits.level == "approximate" and "bfloat16" in logits.reason and "by construction" in logits.reason
    checks = check("logits", 0.9, 1.0), check("logits", 0.02, 0.5, IN_DTYPE)
    logits = trust(LOADED.architecture, HALF, found(*checks))["logits"]
    assert logits.level == "approximate" and f"{IN_DTYPE} off by at most 0.02 nats" in logits.reason
    assert "2025-01-02" in logits.reason and "by construction" not in logits.reason


def test_what_doctor_proved_says_when_and_how_far_the_nearest_to_its_bound_was_off():
    checks = check("heads", 1e-6), check("heads", 3e-5, name="nearest"), check("logits", 0.0, 0.0)
    trusts = trust(LOADED.architecture, LOADED.card, found(*checks))
    assert trusts["heads"].level == "exact" and "nearest off by at most 3e-05 nats" in trusts["heads"].reason
    assert "2025-01-02" in trusts["heads"].reason and "compared without a difference" in trusts["logits"].reason
    assert "by construction" in trusts["residual"].reason  # nothing was compared there


def test_what_failed_is_approximate_by_as_much_in_its_own_group_only():
    trusts = trust(
        LOADED.architecture, LOADED.card, found(check("heads", 1e-6), check("heads", 0.5), check("logits", 0.0))
    )
    assert trusts["heads"].level == "approximate" and "off by 0.5 nats, 0.0001 allowed" in trusts["heads"].reason
    assert trusts["logits"].level == "exact"
    unknown = trust(LOADED.architecture, LOADED.card, found(check("heads", None)))["heads"]
    assert unknown.level == "approximate" and "not a number" in unknown.reason


def test_what_was_only_skipped_is_not_proven():
    logits = trust(LOADED.architecture, LOADED.card, found(check("logits", None, None, skipped="no room")))["logits"]
    assert logits.level == "exact" and "by construction" in logits.reason


def test_what_a_model_does_not_have_is_unavailable_for_a_reason():
    trusts = trust(with_parts(LOADED.architecture, attention_modules=(None,) * 4), LOADED.card, None)
    missing = {group for group, each in trusts.items() if each.level == "unavailable"}
    assert missing == {"heads", "attention"} and "softmax" in trusts["heads"].reason
    latent = nn.Module()
    latent.kv_lora_rank = 8
    trusts = trust(with_parts(LOADED.architecture, attention_modules=(latent,) * 4), LOADED.card, None)
    assert trusts["heads"].level == "exact" and trusts["attention"].level == "unavailable"
    assert "compressed" in trusts["attention"].reason


def test_loading_reads_what_was_found_for_this_model_here(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "state", lambda: tmp_path / "state")
    spec = ModelSpec(str(small.saved(tmp_path / "tiny")), device="cpu", dtype="float32")
    card = load(spec, lambda progress: None).card
    assert "by construction" in card.trust["heads"].reason
    report.save(replace(found(check("heads", 0.5)), versions=card.versions), card)
    assert load(spec, lambda progress: None).card.trust["heads"].level == "approximate"
