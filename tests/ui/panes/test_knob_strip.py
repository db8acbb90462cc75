"""The strip beside what it shows elsewhere: which knobs it names, and how their values read."""

from dataclasses import replace as replaced

import made
import pytest
from msgspec.structs import replace

from tui_entropy.records.knobs import BY_NAME, KNOBS
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Vector
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.panes.hints import Hints
from tui_entropy.ui.panes.knobs import KnobStrip
from tui_entropy.ui.views.frame import Frame


def strip(asked: Knobs, width: int = 400) -> str:
    log = made.log(2)
    return " ".join(line.text for line in KnobStrip().draw(Frame(log, Paint(), knobs=asked), width, 2))


def test_a_knob_that_needs_another_is_named_once_that_is_on():
    knobs = made.log(2).knobs
    for needing, on in (("DRY-base", {"dry_multiplier": 0.8}), ("XTC-threshold", {"xtc_probability": 0.5})):
        assert needing not in strip(knobs)
        assert needing in strip(replace(knobs, **on))
    assert "last-n" not in strip(knobs) and "last-n off" in strip(replace(knobs, presence_penalty=0.5))


def test_every_knob_has_its_place_once_all_are_on():
    everything = Knobs(
        dry_multiplier=0.8, xtc_probability=0.5, mirostat_tau=5.0, dynatemp_range=0.5, adaptive="S1", banned=(5, 6),
        lens=1,
    )  # fmt: skip
    shown = strip(everything, 800)
    assert all(f"{knob.short} " in shown for knob in KNOBS)
    assert "banned off→2" in shown and "adaptive off→S1" in shown and "DRY-breakers \\n,:" in shown


@pytest.mark.parametrize(("min_p", "reads"), [(0.005, "0.005"), (0.05, "0.05"), (0.1, "0.10"), (0.0, "off")])
def test_a_small_value_is_not_rounded_to_another(min_p: float, reads: str):
    knobs = made.log(2).knobs
    assert f"min-p off→{reads}  " in strip(replace(knobs, min_p=min_p)) or reads == "off"
    assert ("→" in strip(replace(knobs, min_p=min_p))) == (min_p > 0)


def test_the_line_below_says_what_the_chosen_knob_does_and_costs_before_it_is_turned():
    frame = Frame(made.log(2), Paint(), knob="dry_multiplier", place="knobs")
    (line,) = Hints().draw(frame, 140, 1)
    assert BY_NAME["dry_multiplier"].meaning in line.text and "ms a token" in line.text
    assert "turn" in line.text
    (line,) = Hints().draw(replaced(frame, knob="top_k"), 140, 1)
    assert BY_NAME["top_k"].meaning in line.text and "Costs" not in line.text


def test_a_vector_that_changes_shows_its_strength_of_the_next_step_and_its_condition():
    ramp = Vector("warm", "built in", (1,), 2.0, True, schedule=((1, 0.0), (5, 1.0)))
    evil = Vector("odd", "x", (1,), 1.0, True, condition='text ~ "\x1b[31m" and entropy > 3 bits')
    view = KnobStrip()
    for n, strength in ((0, "+0.0~"), (2, "+1.0~"), (9, "+2.0~")):
        shown = " ".join(line.text for line in view.draw(Frame(made.log(n), Paint(), vectors=(ramp, evil)), 200, 3))
        assert f"warm {strength}" in shown and "odd +1.0 if text ~" in shown and "\x1b" not in shown
