"""Visits: a step that lacks what its own pass tells is asked for where the cursor rests, and shown as it comes."""

from __future__ import annotations

import fake_engine
import pytest
from inspectors import LAYERS, WRITE, ready, screen_text, settled, up, writing
from msgspec.structs import replace

from tui_entropy.records.commands import Write
from tui_entropy.records.events import TEXT_READ, Paused, Prefilled, Refused, Started
from tui_entropy.records.probes.ask import AskProbe, ProbeAnswer, ProbeInfo
from tui_entropy.records.probes.visit import VISIT
from tui_entropy.records.step import sparse_step

HEADS, N = 4, 12


def whole(index):
    return fake_engine.step(index, 1, LAYERS, HEADS, run=1)


def sparse(index):
    known = whole(index)
    names = ("run", "index", "position", "token_id", "token_bytes", "text", "candidates", "perplexity", "final_prob")
    return sparse_step(CARD, known.numbers, **{name: getattr(known, name) for name in names})


CARD = fake_engine.card(LAYERS, HEADS)


OFFERED = (ProbeInfo(VISIT, "", ""),)


def read_text(probes=OFFERED):
    begun = fake_engine.started(WRITE, 1, ())
    started = replace(begun, prompt_tokens=begun.prompt_tokens[:1], n_given=N)
    assert isinstance(started, Started)
    return [
        replace(ready(), card=CARD, probes=probes),
        started,
        Prefilled(1, 1 + N, 1 + N, 1.0),
        *map(sparse, range(N)),
        Paused(1, TEXT_READ),
    ]


def visits(app):
    return [one.position for one in app.sent if isinstance(one, AskProbe) and one.name == VISIT]


@pytest.fixture
async def reader():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        app.take(read_text())
        await settled(app, pilot)
        yield app, pilot


async def test_the_step_under_the_cursor_is_visited_once_and_its_heads_are_shown(reader):
    app, pilot = reader
    newest = N  # position of the last token
    assert visits(app) == [newest] and app.frame.step == sparse(N - 1)
    (asked,) = [one for one in app.sent if isinstance(one, AskProbe) and one.name == VISIT]
    assert asked.record and asked.options["temperature"] == app.frame.log.knobs.temperature
    await pilot.press("left")
    await settled(app, pilot)
    assert visits(app) == [newest]  # one question at a time
    app.take([ProbeAnswer(VISIT, 1, newest, panels=(whole(N - 1),))])
    await settled(app, pilot)
    assert visits(app) == [newest, newest - 1] and not app.frame.step.is_visited
    before = screen_text(app)
    app.take([ProbeAnswer(VISIT, 1, newest - 1, panels=(whole(N - 2),))])
    await settled(app, pilot)
    assert app.frame.step == whole(N - 2) and screen_text(app) != before
    await pilot.press("right")
    await settled(app, pilot)
    assert app.frame.step == whole(N - 1) and visits(app) == [newest, newest - 1]


async def test_a_token_that_cannot_be_visited_is_not_asked_again(reader):
    app, pilot = reader
    app.take([Refused("there is no memory for it")])
    await settled(app, pilot)
    for key in ("left", "right", "left", "right"):
        await pilot.press(key)
        await settled(app, pilot)
    assert visits(app).count(N) == 1 and "there is no memory" in screen_text(app)


async def test_an_answer_about_another_token_is_none_of_this_one(reader):
    app, pilot = reader
    app.take([ProbeAnswer(VISIT, 1, N, panels=(replace(whole(N - 1), token_id=9),))])
    await settled(app, pilot)
    assert app.frame.step == sparse(N - 1)


async def test_a_source_without_visits_is_asked_for_none():
    app = up()
    async with app.run_test(size=(200, 60)) as pilot:
        app.take(read_text(probes=()))
        await settled(app, pilot)
        assert visits(app) == [] and "?" in screen_text(app)
        assert "not measured: the text was read in one go" in screen_text(app)
        assert "read, and not drawn, at position" in screen_text(app) and "drawn with seed" not in screen_text(app)


async def test_while_the_text_is_read_it_says_so_and_nothing_is_visited():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        app.take([*read_text()[: 3 + 5], Prefilled(1, 6, 1 + N, 0.5)])
        await settled(app, pilot)
        assert "reading the text" in screen_text(app) and visits(app) == []


@pytest.fixture
async def writer():
    """A text of six tokens behind a prompt, paused."""
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await writing(app, pilot, steps=6)
        app.take([Paused(1, "by you")])
        await settled(app, pilot)
        yield app, pilot


def opened(app, given):
    """What the engine tells where the prompt of a text is opened."""
    began = app.frame.log.started
    begun = replace(began, run=2, parent=1, prompt_tokens=began.prompt_tokens[:1], n_given=given)
    steps = [replace(sparse(at), run=2, position=at + 1) for at in range(given)]
    return [begun, *steps, Paused(2, TEXT_READ)]


@pytest.mark.parametrize("key", [["V"], ["left"], ["shift+left"]], ids=str)
async def test_a_prompt_is_opened_and_its_last_token_is_looked_at(writer, key):
    app, pilot = writer
    await pilot.press("home")
    await settled(app, pilot)
    assert not [one for one in app.sent if isinstance(one, Write)]
    await pilot.press(*key)
    (asked,) = [one for one in app.sent if isinstance(one, Write)]
    ids = [token.token_id for token in app.frame.log.started.prompt_tokens]
    assert asked.read and asked.parent == 1 and asked.token_ids == (*ids, *app.frame.log.steps.ids)
    app.take(opened(app, len(asked.token_ids) - 1))
    await settled(app, pilot)
    assert app.frame.cursor == len(ids) - 2 and not app.frame.following
    app.sent.clear()
    await pilot.press("V")
    assert app.sent == [] and "a step already" in screen_text(app)


async def test_while_a_text_is_written_the_cursor_stays_in_it_and_it_is_said_how_the_prompt_is_opened():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await writing(app, pilot, steps=6)
        await pilot.press("home", "left")
        await settled(app, pilot)
        assert "V opens it token by token" in screen_text(app)
        assert app.frame.cursor == 0 and not [one for one in app.sent if isinstance(one, Write) and one.read]


async def test_what_is_searched_is_told_of_the_prompt_too(writer):
    app, pilot = writer
    prompt = app.frame.log.started.prompt_tokens
    await pilot.press("slash", *prompt[-1].text.strip(), "enter")
    await settled(app, pilot)
    assert "its prompt has it: V opens the prompt" in screen_text(app)


async def test_from_a_token_that_is_looked_at_the_cursor_stays_on_it(writer):
    app, pilot = writer
    await pilot.press("left", "left", "V")
    position = app.frame.step.position
    app.take(opened(app, len(app.frame.log.started.prompt_tokens) + 5))
    await settled(app, pilot)
    assert app.frame.step.position == position
