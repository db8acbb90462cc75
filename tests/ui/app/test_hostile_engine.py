"""What a screen does with an engine that says anything: it is told of in a sentence, and the screen lives."""

import array
import asyncio
import math
import sys

import fake_engine
import hostile
import msgspec
import pytest
from hypothesis import HealthCheck, given, seed, settings
from inspectors import settled
from made_steps import with_numbers
from msgspec.structs import replace

from tui_entropy.records.arrays import Grid
from tui_entropy.records.commands import Load, Write
from tui_entropy.records.events import Event, Ready
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step
from tui_entropy.transport.async_client import EngineProcess
from tui_entropy.transport.plausible import contradiction
from tui_entropy.ui.app.app import InspectorApp

MESSAGES = hostile.texts(b"refused", b"sentence")

SAYS = """
import sys, time
from pathlib import Path
from tui_entropy.transport import connection as link
server = link.listen(Path(sys.argv[-2]))
server.setblocking(True)
end = server.accept()[0]
end.recv(1)
end.sendall(bytes.fromhex(sys.argv[1]))
time.sleep(float(sys.argv[2]))
"""


@pytest.mark.parametrize("number", range(len(MESSAGES)))
async def test_no_message_of_an_engine_leaves_the_screen_waiting(number):
    message = MESSAGES[number] if len(MESSAGES[number]) < 60_000 else MESSAGES[number][:60_000]
    whole = len(message) == len(MESSAGES[number]) and not message.endswith(b"cut short")
    heard, lost, unheard = [], [], []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    program = [sys.executable, "-c", SAYS, message.hex(), "60" if whole else "0"]
    engine = EngineProcess(program, heard.extend, lost.append)
    engine.start()
    engine.send(Load(ModelSpec("toy")))
    async with asyncio.timeout(60):
        while not lost:
            await asyncio.sleep(0.01)
    assert ("the link to the engine broke" in lost[0]) == whole and "\n" not in lost[0] and not unheard
    assert engine.pid is None and not heard


def test_a_grid_that_is_none_is_no_message():
    good = fake_engine.step(3)
    for shape in ((2, 3), (-1, -6), (10**6, 10**6)):
        bad = msgspec.to_builtins(good, builtin_types=(bytes,))
        bad["attention"] = [shape, b"\0" * 23]
        with pytest.raises(msgspec.ValidationError, match="grid"):
            msgspec.msgpack.decode(msgspec.msgpack.encode(bad), type=Event)
    assert Grid((0, 3), b"").rows() == []


FLOATS = {
    "scalar": lambda step, odd: with_numbers(step, entropy=odd),
    "time": lambda step, odd: replace(step, at=odd),
    "unknown": lambda step, odd: with_numbers(step, logit_margin=odd),
    "candidate": lambda step, odd: replace(step, candidates=(replace(step.candidates[0], logprob=odd),) * 20),
    "share": lambda step, odd: replace(step, candidates=(replace(step.candidates[0], final_prob=odd),) * 20),
    "stage": lambda step, odd: replace(step, stages=(replace(step.stages[0], entropy=odd),) * 3),
    "mass": lambda step, odd: replace(step, stages=(replace(step.stages[0], mass=odd),) * 3),
}


@pytest.mark.parametrize("odd", [math.nan, math.inf])
@pytest.mark.parametrize("place", FLOATS)
def test_a_step_of_the_right_shape_whose_numbers_are_none_cannot_be(place, odd):
    step = fake_engine.step(3, 3, 6, 4)
    assert contradiction(step, fake_engine.card(6, 4)) == ""
    assert contradiction(FLOATS[place](step, odd), fake_engine.card(6, 4)) == "numbers"


async def test_grids_of_anything_are_drawn():
    """Unknown is a NaN in a grid, and a model whose numbers overflow has infinite norms."""

    def gridded(step: Step, odd: float) -> Step:
        grids = {name: getattr(step, name) for name in ("head_entropy", "head_varentropy", "attention", "blocks")}
        numbers = {name: array.array("f", [odd] * math.prod(grid.shape)) for name, grid in grids.items()}
        return replace(step, **{name: Grid(grids[name].shape, numbers[name].tobytes()) for name in grids})

    steps = [
        gridded(fake_engine.step(i, 3, 6, 4), odd) for i, odd in enumerate((math.nan, math.inf, -math.inf, 3e38))
    ]
    app = InspectorApp(ModelSpec("toy"), Write("a b c", None, False, 50, Knobs()), engine_command=None)
    async with app.run_test(size=(120, 36)) as pilot:
        start = fake_engine.started(Write("a b c", None, False, 50, Knobs()), 1, fake_engine.vectors(6))
        app.take([Ready(fake_engine.card(6, 4), fake_engine.vectors(6)), start, *steps])
        for key in ("N", "L", "C", "escape", "c", "c", "c", "left", "left"):
            await pilot.press(key)
            await settled(app, pilot)
        assert app.frame.log.state == "writing"


def decoded(messages: list[bytes]) -> list[Event]:
    """Those that a link would deliver."""
    found = []
    for message in messages:
        try:
            found.append(msgspec.msgpack.decode(message[4:], type=Event))
        except msgspec.ValidationError:
            continue
    return found


@pytest.fixture(scope="module")
def loop():
    made = asyncio.new_event_loop()
    yield made
    made.close()


async def shown(events: list[Event]) -> str:
    """The state of a screen that was told this in the midst of a text."""
    app = InspectorApp(ModelSpec("toy"), Write("a b c", None, False, 50, Knobs()), engine_command=None)
    async with app.run_test(size=(120, 36)) as pilot:
        start = fake_engine.started(Write("a b c", None, False, 50, Knobs()), 1, fake_engine.vectors(6))
        app.take([Ready(fake_engine.card(6, 4), fake_engine.vectors(6)), start])
        app.take(fake_engine.step(i, 3, 6, 4) for i in range(5))
        await pilot.pause(0.1)
        app.take(events)
        await settled(app, pilot)
        return app.frame.log.state


@seed(13)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(messages=hostile.st.lists(hostile.events(), min_size=1, max_size=5))
def test_whatever_an_engine_tells_the_screen_lives(loop, messages):
    assert loop.run_until_complete(shown(decoded(messages)))


@pytest.mark.slow
@seed(14)
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(messages=hostile.st.lists(hostile.events(), min_size=1, max_size=12))
def test_whatever_an_engine_tells_the_screen_lives_for_long(loop, messages):
    assert loop.run_until_complete(shown(decoded(messages)))
