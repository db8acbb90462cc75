"""A model behind a server: whether every token comes in its place, and what the screen costs then."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from fake_model import PERIOD, FakeModel, tokenize
from figures import Figure, Settings, in_turns, ratio, spread
from places import SUPPORT
from screen import CONTEXT, TITLE, answers, cpu, inspector, n_tokens, pressed, shown, writing

from tui_entropy.records.commands import Load, Write
from tui_entropy.records.events import Event
from tui_entropy.records.model import ModelSpec, ServerSpec
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step
from tui_entropy.servers.server_source import ServerSource

SERVER = f"""
import sys
sys.path[:0] = {[str(folder) for folder in SUPPORT]!r}
from fake_model import FakeModel
from fake_requests import Odd
from fake_server import Wire, serving
how = eval(sys.argv[1])
with serving("vllm", model=FakeModel(**how["model"]), odd=Odd(**how["odd"]), wire=Wire(**how["wire"])) as fake:
    print(fake.url, flush=True)
    sys.stdin.read()
"""
PROMPT = "The"
SPEED = 1000
"""Tokens per second that it is to keep up with."""
PACE = 40.0
"""The same of a text on the screen."""
SHAPES: dict[str, dict[str, dict[str, int]]] = {
    "one token in an event": {"model": {}, "odd": {}},
    "three in an event, characters split": {"model": {"split_every": 50}, "odd": {"tokens_per_event": 3}},
}
"""As fields of FakeModel and Odd."""


@contextmanager
def server(model: Mapping[str, int], odd: Mapping[str, int], **wire: float) -> Iterator[str]:
    """The address of a fake vLLM in a process of its own."""
    how = repr({"model": dict(model), "odd": dict(odd), "wire": wire})
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


@dataclass
class Checked:
    """An audience that compares every token with what the server's model says at its place."""

    model: FakeModel
    n_prompt: int
    n: int = 0
    wrong: int = 0
    events: list[Event] = field(default_factory=list)

    def emit(self, event: Event) -> None:
        if not isinstance(event, Step):
            self.events.append(event)
            return
        position = self.n_prompt + self.n
        token_id = self.model.take(position, self.n, 0.0, 0, {})
        ranked = self.model.ranked(position)[: len(event.candidates)]
        right = (event.index, event.position, event.token_id) == (self.n, position, token_id)
        right = right and [one.token_id for one in event.candidates] == [id for id, _ in ranked]
        right = right and abs(event.surprisal + self.model.logprob(position, token_id)) < 1e-6
        self.wrong += not right
        self.n += 1

    answer = emit

    def hears_cancel(self) -> bool:
        return False


def asked(settings: Settings) -> Iterator[Figure]:
    """Tokens that are lost or shifted, then the figures of the screen by those with an own engine, in turns."""
    wanted = 5_000 if settings.quick else 100_000
    for name, shape in SHAPES.items():
        yield from _every_token(name, shape, wanted)
    yield from _on_the_screen(settings)


def _every_token(name: str, shape: Mapping[str, Mapping[str, int]], wanted: int) -> Iterator[Figure]:
    checked = Checked(FakeModel(**shape["model"]), len(tokenize(PROMPT)))
    for position in range(PERIOD):  # what it is compared with is not what is measured
        checked.model.ranked(position)
    with server(**shape) as url:
        source = ServerSource(checked)
        try:
            source.begin(Load(ModelSpec("fake", server=ServerSpec(url))))
            began, spent = time.perf_counter(), time.process_time()
            source.handle(Write(PROMPT, None, False, wanted, Knobs(temperature=0.0)))
            while source.state == "writing":
                source.advance()
            took, spent = time.perf_counter() - began, time.process_time() - spent
        finally:
            source.close()
    lost = abs(wanted - checked.n) + checked.wrong
    yield Figure(f"tokens lost or shifted, {name}", lost, f"of {wanted}", "<= 0")
    detail = f"{checked.n / took:.4g} tok/s came, as fast as both could"
    yield Figure(f"computing for one, {name}", 1e3 * spent / checked.n, "ms", f"<= {1e3 / SPEED:g}", detail)


def _on_the_screen(settings: Settings) -> Iterator[Figure]:
    """At 200x60 with every view, and an engine or a server that only pretends, both at the same pace."""
    with server({}, {}, seconds_per_event=1 / PACE) as url:
        ways = {"server": partial(_screen, settings, url), "own engine": partial(_screen, settings, None)}
        found = in_turns(ways, settings.rounds)
    for n, (name, unit) in enumerate(MEASURED):
        these, those = ([one[n] for one in found[way]] for way in ways)
        detail = f"{spread(these, unit)} by {spread(those, unit)}"
        yield Figure(f"{name}: a server's by an own engine's", ratio(these, those), "x", "<= 1.1", detail)


MEASURED = (
    ("first painted screen", "s"), ("key to screen", "ms"), ("bytes per token", "B"), ("CPU per token", "ms"),
)  # fmt: skip


def _screen(settings: Settings, url: str | None) -> tuple[float, ...]:
    """What is measured of one screen, in that order."""
    with inspector(settings, None if url else PACE, server=url) as terminal:
        painted = terminal.wait_for(TITLE) - terminal.started
        terminal.wait_for(CONTEXT, 60)
        writing(terminal, 60)
        before, spent = list(terminal.chunks), cpu(terminal)
        time.sleep(4 if settings.quick else 15)
        spent, after = cpu(terminal) - spent, list(terminal.chunks)
        presses = pressed(terminal, 20 if settings.quick else 100)
        waits = list(answers(list(terminal.chunks), presses))
    tokens = n_tokens(shown(after)) - n_tokens(shown(before))
    sent = sum(len(chunk.data) for chunk in after[len(before) :])
    return painted, 1e3 * statistics.median(waits), sent / tokens, 1e3 * spent / tokens
