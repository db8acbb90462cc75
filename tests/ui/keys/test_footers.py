"""What the footer offers, and what a sentence on a page names, acts: with an engine, on a recording, and where
another screen is in control."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from inspectors import WRITE, begun, ready, screen_text, settled, up
from key_presses import PLACES, N, bring_to, events, go
from msgspec.structs import replace as replaced
from recordings import recorded, session

from tui_entropy.records.commands import Advance, Continue, Stop, TakeControl
from tui_entropy.records.events import Continued, Ended, Failed, Progress, Standing
from tui_entropy.records.probes.ask import AskProbe
from tui_entropy.records.source import Capabilities, ability, inability
from tui_entropy.trace.playback import Playback
from tui_entropy.trace.reader import Trace
from tui_entropy.ui.actions.engine_link import WATCHING
from tui_entropy.ui.app.replay_app import ReplayApp
from tui_entropy.ui.dialogs.help import help_text
from tui_entropy.ui.keys.branch_choice import BranchesState
from tui_entropy.ui.keys.keymap import BY_ID as KEYS_BY_ID
from tui_entropy.ui.keys.keymap import KEYS, PAGES, holds, key_names, with_keys
from tui_entropy.ui.keys.lane_choices import choices
from tui_entropy.ui.keys.needs import offered, unable
from tui_entropy.ui.panes.hints import OF_PANE, acting, hint, useful_keys

STATES: dict[str, list[Any]] = {
    "starting": [Progress("starting the engine")],
    "ready": [ready()],
    "reading": [ready(), *begun(1, 0)],
    "writing": [ready(), *begun(1, N)],
    "paused": events(),
    "stopped": [ready(), *begun(1, N), Ended(1, "stopped")],
    "ended": [ready(), *begun(1, N), Ended(1, "end of text")],
    "failed": [ready(), *begun(1, N), Failed("it broke", "")],
}
WATCHED = Standing("e1", 1, 0.0, None, "paused", N, "", 60.0, screens=2)
QUESTIONS = AskProbe, TakeControl
"""What a screen that only watches may tell an engine."""


async def refused_on(app: Any, pilot: Any, places: Any, cursors: Any = (True, False)) -> list[str]:
    """Every key that the footer offers at these places, pressed; those that were refused.

    cursors: whether the end is followed, or an earlier step looked at.
    """
    refused = []
    start = app.frame
    app.exit = app.copy_to_clipboard = lambda *_, **__: None
    for place in places:
        for following in cursors if start.last >= 0 else (True,):

            async def back(place=place, following=following):
                while len(app.screen_stack) > (1 if app.page is None else 2):
                    app.pop_screen()
                for name in ("no_answer", "close_prompt", "escape"):
                    if name in app.actions:
                        app.actions[name]()
                if isinstance(app, ReplayApp):
                    app.playback.choose(start.log.run_number, None)
                    app.come_to()
                app.frame = replace(start, log=app.frame.log, notice="")
                app.show(following=following, cursor=None if following else 5, row=0)
                await go(app, pilot, place)

            await back()
            for key in [one for listed in useful_keys(app.frame) for one in acting(app.frame, listed)]:
                await back()
                app.notices.refused = False
                await app.run_action(key.action)
                await pilot.pause()
                if app.notices.refused:
                    refused.append(f"{place or 'usual'}, following {following}: {key.id}: {app.frame.notice}")
    return refused


@pytest.mark.parametrize(
    "places", [PLACES[:6], pytest.param(PLACES[6:], marks=pytest.mark.slow)], ids=["usual", "rest"]
)
@pytest.mark.parametrize("state", STATES)
async def test_what_the_footer_offers_is_not_refused(state, places):
    app = up(write=None)
    app.requests.wrote = WRITE
    async with app.run_test(size=(80, 24)) as pilot:
        app.take(STATES[state])
        await settled(app, pilot)
        refused = await refused_on(
            app, pilot, places if state in ("ready", "paused", "stopped", "ended") else places[:4]
        )
    assert not refused, "\n".join(refused)


async def test_at_the_end_of_a_text_the_footer_leads_on():
    app = up(write=None)
    async with app.run_test(size=(120, 36)) as pilot:
        app.take(STATES["ended"])
        await settled(app, pilot)
        offered = [key.id for key in useful_keys(app.frame)]
        assert offered[:2] == ["again", "prompt"] and not {"pause", "step", "stop", "sentence"} & set(offered)


async def test_after_a_stop_space_goes_on_and_the_footer_and_the_notice_say_so():
    app = up(write=None)
    async with app.run_test(size=(120, 36)) as pilot:
        app.take(STATES["writing"])
        await settled(app, pilot)
        await pilot.press("s")
        assert app.sent[-1:] == [Stop()]
        app.take([Ended(1, "stopped")])
        await settled(app, pilot)
        assert "space goes on" in app.frame.notice
        assert [key.id for key in useful_keys(app.frame)][:2] == ["pause", "step"]
        (_, _), (word, _) = hint(app.frame, KEYS_BY_ID["pause"])
        assert word.strip() == "go on" and "stop" not in {key.id for key in useful_keys(app.frame)}
        await pilot.press("space")
        await pilot.press("n")
        assert [one for one in app.sent if not isinstance(one, QUESTIONS)][1:] == [Continue(), Advance(1)]
        app.take([Continued(1)])
        await settled(app, pilot)
        assert app.frame.log.state == "writing" and app.frame.notice == ""


# --- On a recording ------------------------------------------------------------------------------------------------

IN_A_REPLAY = tuple(place for place in PLACES if place not in ("prompt", "fan"))
"""No key leads to the others there."""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    runs = [event for run in (1, 2, 3) for event in session(12, run=run, layers=6, heads=4)]
    return recorded(tmp_path_factory.mktemp("traces") / "story.tui", *runs, layers=6, heads=4)


@pytest.mark.parametrize("run", [1, 2, 3])
async def test_what_the_footer_of_a_replay_offers_is_not_refused(file, run):
    """At the first run, at the last and between, with another branch chosen and with the one that is looked at."""
    app = ReplayApp(Playback(Trace.open(file), run=run, first=None))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(app, pilot)
        refused = await refused_on(app, pilot, IN_A_REPLAY if run == 2 else ("", "branches"), (False,))
        app.show(**app.frame.put(BranchesState, branch=1 if run > 1 else 2))
        refused += await refused_on(app, pilot, ("", "branches", "diff"), (True,))
    assert not refused, "\n".join(refused)


async def test_of_two_opposite_keys_the_footer_names_the_one_that_acts(file):
    shown = {}
    for run in (1, 2, 3):
        app = ReplayApp(Playback(Trace.open(file), run=run, first=None))
        async with app.run_test(size=(120, 36)):
            key = next(key for key in useful_keys(app.frame) if key.id == "replay.before")
            (name, style), _ = hint(app.frame, key)
            shown[run] = name, style.meta["@click"]
    assert shown == {1: (") ", "app.run(1)"), 2: ("( ) ", "app.run(-1)"), 3: ("( ", "app.run(-1)")}


# --- Where another screen is in control ----------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["ready", "writing", "paused", "stopped", "ended"])
async def test_what_the_footer_of_a_watcher_offers_is_neither_refused_here_nor_by_the_engine(state):
    app = up(write=None)
    async with app.run_test(size=(80, 24)) as pilot:
        app.take([WATCHED, *STATES[state]])
        await settled(app, pilot)
        app.sent.clear()
        places = [place for place in PLACES if place not in ("prompt", "ask")]
        refused = await refused_on(app, pilot, places if state == "paused" else places[:2], (state != "paused",))
        sent = [one for one in app.sent if not isinstance(one, QUESTIONS)]
    assert not refused and not sent, "\n".join([*refused, *map(str, sent)])


async def test_no_key_of_a_watcher_commands_the_engine_and_control_brings_all_of_them_back():
    app = up(write=None)
    async with app.run_test(size=(80, 24)) as pilot:
        app.take([WATCHED, *STATES["paused"]])
        await settled(app, pilot)
        app.exit = app.action_suspend_process = lambda *_, **__: None
        for key in KEYS:
            if key.where != "replay":
                await bring_to(app, pilot, next(place for place in PLACES if holds(key.where or place, place)))
                await app.run_action(key.action)
                assert key.name not in app.commanding or app.frame.notice == with_keys(WATCHING, {}), key.id
                assert not [one for one in app.sent if not isinstance(one, QUESTIONS)], key.id
        app.take([replaced(WATCHED, in_control=True)])
        await settled(app, pilot)
        assert not app.lacking & app.commanding


# --- Where the source can do little --------------------------------------------------------------------------------

TOLD = frozenset({"write", "stop", "go", "label"})


async def test_what_a_source_cannot_be_told_is_not_offered_and_dim_in_help_and_refused_in_a_sentence():
    app = up(write=None)
    app.requests.wrote = WRITE
    able = replaced(ready(), capabilities=Capabilities(commands=tuple(TOLD)))
    async with app.run_test(size=(80, 24)) as pilot:
        app.take([able, *STATES["paused"][1:]])
        await settled(app, pilot)
        app.exit = app.action_suspend_process = lambda *_, **__: None
        help_shown = help_text(app.frame)
        for key in [key for key in KEYS if key.tells and key.where != "prompt"]:
            await bring_to(app, pilot, next(place for place in PLACES if holds(key.where or place, place)))
            needed = key.tells.split()
            if TOLD.isdisjoint(needed):
                assert not offered(app.frame, key), key.id
                await app.run_action(key.action)
                assert app.frame.notice == inability(needed[0]), key.id
                assert not key.shown or style_of(help_shown, key.label) == str(app.frame.paint.dim), key.id
            else:
                assert key.name not in app.lacking, key.id
        assert not [one for one in app.sent if ability(one) not in TOLD]
        refused = await refused_on(app, pilot, ("", "branches", "lanes"))
        assert not refused, "\n".join(refused)
        app.take([ready()])
        await settled(app, pilot)
        assert not app.lacking & unable(able.capabilities)


def style_of(text: Any, words: str) -> str:
    """Of the first place in a text where these words stand on the end of a line."""
    at = text.plain.index(f"{words}\n")
    return next(str(span.style) for span in text.spans if span.start <= at < span.end)


# --- What sentences name -------------------------------------------------------------------------------------------

NAMED = re.compile(
    r"(?<![\w-])(enter|[A-Za-z+]) (?:and - )?(?:runs|asks|adds|switches|turn|types|writes|write|a new branch)\b"
    r"|(?<= )\(([A-Z])\)|[Pp]ress (\w)\b(?! there)|(?<=\. )([A-Z]): "
)
"""A key in a sentence."""


async def named_in_vain(app: Any, pilot: Any) -> tuple[list[str], int]:
    """Sentences on any page that name a key which does nothing there, and how many name one."""
    wrong, n = [], 0
    for place in ("", *PAGES):
        app.actions["escape"]()
        await go(app, pilot, place)
        if place == "lanes":
            app.show(row=len(choices(app.frame)) - 1)
        await settled(app, pilot)
        here = [key for key in KEYS if holds(key.where or app.place, app.place) and offered(app.frame, key)]
        acting_here = {name for key in here for name in key_names(key.keys).split()}
        for row in screen_text(app).splitlines()[:-1]:  # the last one is the footer
            for found in NAMED.finditer(row):
                n += 1
                if next(filter(None, found.groups())) not in acting_here:
                    wrong.append(f"{place or 'usual'}: {row.strip()}")
        app.actions["close_page"]()
    return wrong, n


@pytest.mark.parametrize("watched", [False, True], ids=["in control", "watching"])
@pytest.mark.parametrize("state", ["ready", "paused", "ended", "failed"])
async def test_no_sentence_names_a_key_that_does_nothing(state, watched):
    app = up(write=None)
    async with app.run_test(size=(120, 36)) as pilot:
        app.take([*([WATCHED] if watched else []), *STATES[state]])
        await settled(app, pilot)
        wrong, n = await named_in_vain(app, pilot)
    assert not wrong and (n or watched), "\n".join(wrong)


async def test_no_sentence_of_a_replay_names_a_key_that_does_nothing(file):
    app = ReplayApp(Playback(Trace.open(file), run=2, first=None))
    async with app.run_test(size=(120, 36)) as pilot:
        wrong, _ = await named_in_vain(app, pilot)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("pane", sorted(OF_PANE))
@pytest.mark.parametrize("state", ["writing", "paused", "ended"])
async def test_the_footer_begins_with_what_acts_on_the_pane_in_focus(pane, state):
    app = up()
    async with app.run_test(size=(200, 60)) as pilot:
        app.take(STATES[state])
        await settled(app, pilot)
        app.focus_on(pane)
        await settled(app, pilot)
        assert app.frame.focus == pane
        first = [key.id for key in useful_keys(app.frame)]
        own = [name for name in OF_PANE[pane] if acting(app.frame, KEYS_BY_ID[name])]
        assert own and first[: len(own)] == own and len(first) == len({*first})
        app.notices.refused = False
        for key in [one for name in own for one in acting(app.frame, KEYS_BY_ID[name])]:
            if key.id not in ("take", "ban", "chart", "waterfall"):  # these leave the place
                await app.run_action(key.action)
                await pilot.pause()
                assert not app.notices.refused, key.id
        await app.run_action("escape")
        await settled(app, pilot)
        assert app.frame.focus == "stream"


async def test_a_key_that_a_person_moved_is_named_as_they_moved_it():
    app = up(keymap={"heads": "f7", "unit": "f8", "step": "f9"})
    async with app.run_test(size=(120, 36)) as pilot:
        app.take(events())
        await settled(app, pilot)
        assert "f9 step" in screen_text(app)
        palette = {command.title: command.help for command in app.get_system_commands(app.screen)}
        assert palette[KEYS_BY_ID["heads"].label.capitalize()].endswith(" f7")
    listed = str(help_text(app.frame))
    assert "f7" in listed and "f8" in listed
