"""One table: no key twice in one place, nothing that does nothing, and everything listed."""

import inspect

import made
import pytest
from drawn_rows import rows
from textual.actions import parse

from tui_entropy.core.errors import UserError
from tui_entropy.records.knobs import BY_NAME, KNOBS, read
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.source import ABILITIES
from tui_entropy.stages.registry import ORDERS
from tui_entropy.state.session_view import SessionView
from tui_entropy.ui.app.app import InspectorApp
from tui_entropy.ui.app.replay_app import PlayActions
from tui_entropy.ui.dialogs.help import help_text
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.keys import knob_steps
from tui_entropy.ui.keys.keymap import KEYS, PAGES, key_names, keymap
from tui_entropy.ui.panes.hints import BY_ID, PAIRS, Hints, useful_keys
from tui_entropy.ui.protocol.actions import Actions, table_of
from tui_entropy.ui.views.frame import Frame

MULTIPLEXERS = {"ctrl+a", "ctrl+b", "ctrl+s", "ctrl+space", "ctrl+i", "ctrl+m", "ctrl+h"}
"""Prefixes of tmux and screen, flow control, and names that terminals have for tab, enter and backspace."""


def test_no_key_does_two_things_in_one_place():
    taken = [(key.where, name) for key in KEYS for name in key.keys.split(",")]
    assert len(taken) == len(set(taken))
    assert len({key.id for key in KEYS}) == len(KEYS)


RELATED = {
    "d": "ban a token: here, from there on",
    "g": "write it again: the next seed, the same one",
    "i": "a prompt: a new one, the one that there is",
    "j": "so many tokens: to look at, to write",
    "k": "top-k", "m": "min-p", "p": "top-p", "r": "repetition penalty", "t": "temperature",
    "x": "what steers: all of it off, and one more, a part that is scaled",
    "z": "how much of the screen a pane has: all of it, nothing",
    "v": "the prompt: as the model read it, and token by token",
}  # fmt: skip
"""A letter whose capital has to do with it -> why."""


def test_letters_whose_capital_has_nothing_to_do_with_them_are_few():
    everywhere = [name for key in KEYS if key.where in ("", "usual", "token") for name in key.keys.split(",")]
    both = {name for name in everywhere if name.islower() and len(name) == 1 and name.upper() in everywhere}
    assert RELATED.keys() <= both
    assert len(both - RELATED.keys()) < 12, sorted(both - RELATED.keys())


def test_a_keymap_names_keys_by_what_they_do_and_so_is_read_whatever_they_are_by_default(tmp_path):
    file = tmp_path / "keys.toml"
    moved = {"line": "l", "ban.on": "X", "force": "F", "restart": "E", "lanes": "V", "detach": "D"}
    file.write_text("".join(f'"{name}" = "{keys}"\n' for name, keys in moved.items()))
    assert keymap(file) == moved


def test_an_action_with_its_arguments_belongs_to_one_place():
    places = {}
    for key in KEYS:
        assert places.setdefault(parse(key.action)[1:], key.where) == key.where, key.id


def test_no_key_is_one_that_terminals_or_multiplexers_keep():
    assert not {name for key in KEYS for name in key.keys.split(",")} & MULTIPLEXERS


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.id)
def test_every_action_exists_and_takes_its_arguments(key):
    _, name, arguments = parse(key.action)
    if key.where == "replay":
        inspect.signature(getattr(PlayActions, f"action_{name}")).bind(None, *arguments)
        return
    app = InspectorApp(ModelSpec("toy"), engine_command=None)
    inspect.signature(app.actions.get(name) or getattr(app, f"action_{name}")).bind(*arguments)


def test_every_key_is_in_the_help():
    text = help_text(Frame(SessionView(), Paint())).plain
    for key in KEYS:
        if key.shown:
            assert f"{key_names(key.keys):<26}{key.label}" in text


def test_the_footer_offers_a_restart_when_the_engine_is_gone_and_the_end_when_looking_back():
    gone = SessionView(state="lost")
    assert useful_keys(Frame(gone, Paint()))[0].id == "restart"
    assert useful_keys(Frame(SessionView(), Paint(), following=False))[0].id == "follow"
    assert {key.where for key in useful_keys(Frame(SessionView(), Paint(), place="prompt"))} == {"prompt"}


@pytest.mark.parametrize("place", ["", "knobs", "ask", *PAGES])
def test_in_ascii_a_footer_names_keys_in_words_and_both_of_a_pair(place):
    frame = Frame(made.log(30), Paint(color="mono", ascii=True), place=place, following=False, cursor=5)
    (row,) = rows(Hints(), frame.log, 400, 1, paint=frame.paint, place=place, following=False, cursor=5)
    assert row.isascii()
    for key in useful_keys(frame):
        if key.id in PAIRS:
            both = [key_names(BY_ID[one].keys.split(",")[0], True) for one in (key.id, PAIRS[key.id])]
            assert " ".join(both) in row


async def test_every_action_is_in_the_palette():
    app = InspectorApp(ModelSpec("toy"), engine_command=None)
    async with app.run_test():
        offered = {command.title.lower() for command in app.get_system_commands(app.screen)}
        assert {key.label.lower() for key in KEYS if not key.where and key.id != "palette"} <= offered
        assert {"theme dark", "theme light", "theme high-contrast"} <= offered


async def test_a_keymap_moves_a_key_and_frees_the_old_one():
    app = InspectorApp(ModelSpec("toy"), engine_command=None, keymap={"temperature.up": "w"})
    async with app.run_test() as pilot:
        await pilot.press("T")
        assert app.frame.knobs.temperature == 0.7
        await pilot.press("w")
        assert app.frame.knobs.temperature == 0.8


# --- What a turn of a knob comes to ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [knob.name for knob in KNOBS if knob.rungs])
def test_a_ladder_is_climbed_rung_by_rung_and_stops_at_its_ends(name):
    rungs = BY_NAME[name].rungs
    knobs = read(Knobs(), name, f"{rungs[0]:g}")
    climbed = [getattr(knobs, name)]
    for _ in rungs:
        knobs = knob_steps.adjusted(knobs, name, 1)
        climbed.append(getattr(knobs, name))
    assert climbed == [*rungs, rungs[-1]]
    down = []
    for _ in rungs:
        knobs = knob_steps.adjusted(knobs, name, -1)
        down.append(getattr(knobs, name))
    assert down == [*rungs[-2::-1], rungs[0]]


def test_between_two_rungs_a_turn_goes_to_the_next_one():
    odd = Knobs(temperature=0.75)
    assert knob_steps.adjusted(odd, "temperature", 1).temperature == 0.8
    assert knob_steps.adjusted(odd, "temperature", -1).temperature == 0.7
    assert knob_steps.adjusted(Knobs(top_k=45), "top_k", 1).top_k == 50
    assert knob_steps.adjusted(Knobs(top_k=10_000), "top_k", 1).top_k == 0
    assert knob_steps.adjusted(Knobs(top_k=10_000), "top_k", -1).top_k == 500


def test_the_order_goes_round_and_the_seed_has_no_end():
    orders = [knob_steps.adjusted(Knobs(), "order", by).order_name for by in range(len(ORDERS) + 1)]
    assert orders == [*ORDERS, "hf"]
    assert knob_steps.adjusted(Knobs(seed=10**12), "seed", 1).seed == 10**12 + 1
    assert knob_steps.adjusted(Knobs(seed=0), "seed", -1).seed == 0


def test_choices_go_round_and_text_can_not_be_turned():
    chosen = [knob_steps.adjusted(Knobs(), "adaptive", by).adaptive for by in range(5)]
    assert chosen == ["off", "S1", "S3", "own", "off"]
    with pytest.raises(UserError, match="--dry-breakers"):
        knob_steps.adjusted(Knobs(), "dry_breakers", 1)


def test_a_knob_that_needs_another_is_passed_over_while_that_is_off():
    assert knob_steps.beside(Knobs(), "xtc_probability", 1) == "mirostat_tau"
    assert knob_steps.beside(Knobs(xtc_probability=0.5), "xtc_probability", 1) == "xtc_threshold"
    assert knob_steps.beside(Knobs(), "xtc_threshold", -1) == "xtc_probability"
    assert knob_steps.beside(Knobs(), "temperature", -1) == "n_candidates"
    assert knob_steps.beside(Knobs(), "presence_penalty", 1) == "dynatemp_range"
    assert knob_steps.beside(Knobs(dry_multiplier=0.8), "presence_penalty", 1) == "penalty_last_n"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("temperature", "-1", "between 0 and 100"),
        ("top_k", "1.5", "top-k 1.5 is not a whole number"),
        ("top_p", "0", "above 0 and at most 1; 1 switches it off"),
        ("top_p", "1.1", "top_p is 1.1"),
        ("min_p", ".", "min-p . is not a number"),
        ("banned", "9" * 5000, "is no token id"),
        ("adaptive", "1", "one of off, S1, S3, own"),
    ],
)
def test_a_value_no_chain_can_have_is_refused_in_a_sentence(name, text, said):
    with pytest.raises(UserError, match=said):
        read(Knobs(), name, text)


def test_reset_leaves_a_stage_without_effect():
    assert knob_steps.reset(Knobs(top_k=3), "top_k").top_k == 0
    assert knob_steps.reset(Knobs(top_p=0.5), "top_p").top_p == 1
    assert knob_steps.reset(Knobs(repetition_penalty=1.3), "repetition_penalty").repetition_penalty == 1
    assert knob_steps.reset(Knobs(dry_base=3.0), "dry_base").dry_base == 1.75


def test_a_persons_own_keys_are_read_and_wrong_ones_named(tmp_path):
    file = tmp_path / "keys.toml"
    assert keymap(file) == {}
    file.write_text('"pause" = "p"\nquit = "x"\n')
    assert keymap(file) == {"pause": "p", "quit": "x,ctrl+q"}
    for wrong, said in (('"paus" = "p"', "paus"), ("pause = 3", "pause"), ("pause = ", "cannot be read")):
        file.write_text(wrong)
        with pytest.raises(UserError, match=said):
            keymap(file)


async def test_a_persons_own_key_acts_in_place_of_ours():
    app = InspectorApp(ModelSpec("x"), engine_command=None, keymap={"unit": "ctrl+u"})
    async with app.run_test() as pilot:
        await pilot.press("u")
        assert app.frame.bits
        await pilot.press("ctrl+u")
        assert not app.frame.bits


# --- Parts of the app --------------------------------------------------------------------------------------------


class One(Actions):
    def action_twice(self, by):
        self.app.append(by)


class Other(Actions):
    def action_twice(self, by):
        pass


def test_an_action_is_of_one_part_only():
    acted = []
    _, act = table_of([One(acted)])["twice"]
    act(3)
    assert acted == [3] and One.offered == ("twice",)
    with pytest.raises(AssertionError, match="twice is an action of"):
        table_of([One(acted), Other(acted)])


async def test_a_key_whose_part_an_app_was_not_given_says_so_and_does_nothing_else():
    """So no key is dropped without a word, whatever an app consists of."""
    app, lacking = InspectorApp(ModelSpec("toy"), engine_command=None), []
    app.give()
    app.lack = lacking.append
    async with app.run_test():
        before = app.frame
        for key in KEYS:
            name = parse(key.action)[1]
            if key.where in ("", "usual") and not hasattr(app, f"action_{name}"):
                assert await app.run_action(key.action)
                assert lacking.pop() == name and app.frame == before


def test_a_key_that_commands_the_engine_says_what_it_tells_its_source():
    """The one that starts an engine commands none, and which head is shown is told with any key that changes it."""
    app = InspectorApp(ModelSpec("toy"), engine_command=None)
    assert {key.id for key in KEYS if key.name in app.commanding} == {key.id for key in KEYS if key.tells} | {
        "restart"
    }
    untold = {"continue", "select-head", "reopen", "relayed"}
    assert {told for key in KEYS for told in key.tells.split()} == ABILITIES.keys() - untold
