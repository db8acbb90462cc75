"""What a knob may be, and that the table has all of them."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import fields, replace

from tui_entropy.core.errors import UserError
from tui_entropy.records.knobs import BY_NAME, KNOBS, check, is_idle, is_off, read, shown
from tui_entropy.records.sampling import Knobs
from tui_entropy.stages.registry import ORDERS


def test_every_knob_has_a_row_and_every_stage_a_value_that_is_off() -> None:
    assert sorted(knob.name for knob in KNOBS) == sorted(field.name for field in fields(Knobs))
    assert all(BY_NAME[stage].off is not None for order in ORDERS.values() for stage in order)
    assert len({knob.short for knob in KNOBS}) == len({knob.option for knob in KNOBS}) == len(KNOBS)


@pytest.mark.parametrize("knob", KNOBS, ids=lambda knob: knob.name)
def test_what_the_table_says_can_be_set(knob: Any) -> None:
    for value in (knob.default, *knob.rungs, *([] if knob.off is None else [knob.off])):
        check(replace(Knobs(), **{knob.name: value}))
        assert type(value) is type(knob.default)
    assert all(read(Knobs(), knob.name, choice) for choice in knob.choices)
    assert set(knob.needs) <= set(BY_NAME)
    assert read(Knobs(), knob.name, shown(Knobs(), knob.name)) == Knobs()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"temperature": -0.1}, "temperature is -0.1 but must be between 0 and 100"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_k": -1}, "top_k is -1 but must be between 0 and 10000000; 0 switches it off"),
        ({"top_p": 0.0}, "top_p is 0.0 but must be above 0 and at most 1"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"min_p": 2.0}, "min_p"),
        ({"typical_p": 0.0}, "typical_p"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"presence_penalty": float("inf")}, "presence_penalty"),
        ({"n_candidates": 0}, "n_candidates"),
        ({"n_candidates": 201}, "between 1 and 200"),
        ({"dry_allowed_length": 0}, "between 1 and 1000$"),
        ({"mirostat_eta": 0.0}, "above 0 and at most 1"),
        ({"seed": -1}, "seed is -1"),
        ({"adaptive": "S2"}, "'S2' but must be one of off, S1, S3, own"),
        ({"order": ("temperature", "top_q")}, "'top_q', unknown or twice"),
        ({"order": (*ORDERS["hf"], "top_k")}, "'top_k', unknown or twice"),
        ({"order": ORDERS["hf"][1:]}, "lacks 'repetition_penalty'"),
    ],
)
def test_a_wrong_knob_is_answered_in_a_sentence(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words.replace("(", r"\(")):
        check(Knobs(**wrong))


@pytest.mark.parametrize("order", [*ORDERS.values(), tuple(reversed(ORDERS["hf"]))])
def test_presets_and_permutations_pass(order: tuple[str, ...]) -> None:
    check(Knobs(order=order, temperature=0.0))
    check(Knobs(temperature=1.0, top_k=0, top_p=1.0))


def test_a_knob_is_idle_while_all_that_it_needs_is_off() -> None:
    assert is_idle(Knobs(), "dry_base") and not is_idle(Knobs(dry_multiplier=0.5), "dry_base")
    assert is_idle(Knobs(), "penalty_last_n") and not is_idle(Knobs(presence_penalty=-1.0), "penalty_last_n")
    assert not is_idle(Knobs(), "seed") and not is_off(Knobs(), "seed") and is_off(Knobs(), "min_p")


def test_control_characters_are_shown_escaped() -> None:
    assert shown(Knobs(), "dry_breakers") == '\\n,:,",*'
    assert shown(Knobs(clarifier="\x1b[2J"), "clarifier") == "\\x1b[2J"
