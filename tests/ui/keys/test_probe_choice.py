"""What the page of probes would ask: the token under the cursor, under options of a person, a choice, or usual."""

import made

from tui_entropy.records.probes.ask import ProbeInfo, ProbeOption
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.keys.probe_choice import ProbesState, question
from tui_entropy.ui.views.frame import Frame

PROBES = (ProbeInfo("parts", "", "", (ProbeOption("k", "", 5, 1, 9), ProbeOption("against", "", None, 0))),)


def asked(**fields):
    log = made.log(9)
    log.probes = PROBES
    return question(Frame(log=log, paint=Paint(), cursor=4, **fields))


def test_without_a_choice_options_are_as_usual():
    assert asked().options == {"k": 5, "against": None}


def test_a_candidate_that_is_chosen_in_the_table_is_what_the_token_is_held_against():
    step = made.log(9).steps[4]
    other = next(n for n, one in enumerate(step.candidates) if one.token_id != step.token_id)
    assert asked(token=other + 1).options["against"] == step.candidates[other].token_id


def test_the_written_token_is_held_against_nothing():
    step = made.log(9).steps[4]
    same = [n for n, one in enumerate(step.candidates) if one.token_id == step.token_id]
    assert all(asked(token=n + 1).options["against"] is None for n in same)


def test_what_a_person_set_goes_before():
    own = {ProbesState: ProbesState({"parts": {"against": 3}})}
    assert asked(token=2, pages=own).options["against"] == 3
