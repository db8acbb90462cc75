"""A scripted engine: the real one with made-up numbers at a steady rate in place of a model. No torch.

`python fake_engine.py [--rate 40] [--layers 30] [--heads 9] ... SOCKET LOGFILE` stands in for
the real one. Give `[sys.executable, places.FAKE_ENGINE, ...]` to the app as its engine_command.
"""

from __future__ import annotations

import argparse
import array
import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
from fake_lanes import Lanes
from fake_probes import PROBES, lens, rows
from fake_words import Words
from made_steps import grid, make_step, shaped
from msgspec.structs import replace

from tui_entropy.breakpoints.controller import BreakpointController
from tui_entropy.core.errors import UserError
from tui_entropy.engine.model_source import ModelSource
from tui_entropy.records.arrays import Grid
from tui_entropy.records.commands import Branch, Label, Load, Twin, Write
from tui_entropy.records.events import (
    STOPPED,
    Ended,
    Event,
    KnobsChanged,
    Memory,
    Prefilled,
    Progress,
    Proposed,
    SettingsPending,
    Started,
    Switched,
    VectorsChanged,
)
from tui_entropy.records.knobs import check
from tui_entropy.records.model import ModelCard
from tui_entropy.records.probes.ask import AskProbe, ProbeAnswer, ProbeInfo
from tui_entropy.records.probes.attention_rows import ATTENTION_ROWS
from tui_entropy.records.probes.continuations import CONTINUATIONS
from tui_entropy.records.probes.step import STEP
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Breakpoint, Lane, Vector
from tui_entropy.records.source import Capabilities
from tui_entropy.records.step import Candidate, PromptToken, Stage, Step
from tui_entropy.serving.worker import main as serve
from tui_entropy.transport import connection

TEXT = (
    "the city of Paris , which sits on the Seine and has been the seat of French kings since Clovis , is known for "
    "museums , bridges and a tower of iron . \n The model can be unsure here , and then there would be a fork ."
)
WORDS = TEXT.split(" ")
ODD = (
    "\x1b]0;title\x07", "\x1b[2J", "\u202eback", "\x9b31m", "\x07", "\r", "\x00\x01", "\t", "\u2066", "\u200b",
    "日本語", "🙂", "[/b]", "e\u0301", "\ufffe", "\n\n", "\x7f", "\u2028",
)  # fmt: skip
"""What a terminal would obey, and what it draws in its own way."""


def card(layers: int = 30, heads: int = 9, name: str = "Scripted-135M") -> ModelCard:
    return ModelCard(
        name, None, "nowhere", "made up", "cpu", "float32", layers, heads, max(heads // 3, 1), 64 * heads, 49152,
        8192, ("full",) * layers, (None,) * layers, (True,) * layers, True, {},
    )  # fmt: skip


def vectors(layers: int = 30) -> tuple[Vector, ...]:
    blocks = tuple(range(1, layers + 1))
    return (Vector("warm", "built in", blocks), Vector("formal", "built in", blocks, strength=0.8))


def started(wanted: Write, run: int = 1, on: tuple[Vector, ...] = ()) -> Started:
    words = wanted.prompt.replace(" ", "\0 ").split("\0")
    prompt_tokens = tuple(PromptToken(i, word.encode(), word) for i, word in enumerate(words))
    return Started(run, wanted.prompt, wanted.system, wanted.chat, prompt_tokens, wanted.knobs, on, wanted.max_tokens)


def step(
    index: int, prompt: int = 6, layers: int = 30, heads: int = 9, n: int = 20, seed: int = 7, run: int = 1
) -> Step:
    """The same for the same arguments. Entropies drift from one step to the next as those of a model do."""
    luck = random.Random(seed * 100_003 + index)
    sure = luck.random() ** 0.3
    rest = sorted((luck.random() ** 3 for _ in range(n - 1)), reverse=True)
    share = (1 - sure) / (sum(rest) or 1.0)
    probabilities = [sure, *(p * share for p in rest)]
    rank = 1 if luck.random() < 0.8 else min(2 + int(luck.random() * 3), n)
    words = [WORDS[(index * 7 + i * 5) % len(WORDS)] for i in range(n)]
    words[rank - 1] = WORDS[index % len(WORDS)]
    data = [f" {word}".encode() for word in words]
    surprisals = [-math.log(max(p, 1e-9)) for p in probabilities]
    entropy = sum(p * s for p, s in zip(probabilities, surprisals, strict=True))
    keys = prompt + index
    ceiling = math.log(keys) if keys > 1 else 0.0
    waves = [ceiling * (0.5 + 0.45 * math.sin(i * 1.7 + index * 0.05 * (i % 7))) for i in range(layers * heads)]
    heads_of = Grid((layers, heads), array.array("f", waves).tobytes())
    return make_step(
        index, data[rank - 1], keys, layers, run=run, token_id=1000 + rank,
        entropy=entropy, surprisal=surprisals[rank - 1], rank=float(rank), uniform_kl=math.log(49152) - entropy,
        varentropy=sum(p * (s - entropy) ** 2 for p, s in zip(probabilities, surprisals, strict=True)),
        logit_margin=surprisals[1] - surprisals[0], prob_margin=probabilities[0] - probabilities[1],
        perplexity=3 + math.sin(index / 20), window_perplexity=3 + math.sin(index / 5),
        final_entropy=entropy / 2, final_prob=probabilities[rank - 1],
        candidates=tuple(
            Candidate(1001 + i, data[i], -surprisals[i], p if i < 5 else 0.0, None if i < 5 else "top_p")
            for i, p in enumerate(probabilities)
        ),
        stages=(
            Stage("temperature", 49152, 1.0, entropy / 1.2),
            Stage("top_k", 40, 0.98, entropy / 1.5),
            Stage("top_p", 5, 0.95, entropy / 2),
        ),
        stage_probs=grid([[p * s for p in (probabilities[rank - 1], *probabilities)] for s in (1.0, 1.02, 1.07)]),
        head_entropy=heads_of, head_varentropy=heads_of,
        attention=grid([[0.3, 0.5 + 0.4 * math.sin(index / 9 + block), 2.0] for block in range(layers)]),
        blocks=grid([[0.01, 1.0, 24.0 + block + math.sin(index / 4)] for block in range(layers)]),
        strays=(3,) if index % 20 == 19 else (),
        forward_seconds=0.02, sample_seconds=0.001, at=0.025 * (index + 1),
    )  # fmt: skip


class Session:
    """The state of every run, as the real one keeps it: what is set is applied at the next token."""

    def __init__(self, options: argparse.Namespace, name: str, emit: Callable[[Event], None]) -> None:
        self.options, self.emit, self.state = options, emit, self
        self.loaded = SimpleNamespace(card=card(options.layers, options.heads, name))
        self.knobs = self.applied_knobs = Knobs()
        self.vectors = self.applied_vectors = vectors(options.layers)
        self.run_number = self.limit = 0
        self.began: dict[int, Started] = {}
        self.written: dict[int, list[Step]] = {0: []}
        """Of each run, what it shares with its parent included."""
        self.ended: set[int] = set()
        self.stopped: set[int] = set()
        self.forced: list[int] = []
        self.banned: tuple[int, ...] = ()
        self.breakpoints = BreakpointController(self.loaded.card, Words(), emit)
        self.active = self.held = self.rebuild = False
        self.due = 0.0
        self.lanes = Lanes(self, emit)
        rewinder = SimpleNamespace(rewinds="cropping its cache, exact")
        self.branches = SimpleNamespace(rewinder=rewinder, label=self.label)
        self.given: Iterator[Event] = iter(())
        if options.log:
            self.given = iter(msgspec.msgpack.decode(options.log.read_bytes(), type=list[Event]))

    @property
    def n_written(self) -> int:
        return len(self.written[self.run_number])

    def begin(self, write: Write) -> None:
        self.stop()
        write = replace(write, chat=write.chat is not False)
        self.knobs = write.knobs
        begun = started(write, len(self.began) + 1, self.vectors)
        self.open(begun, [])
        self.emit(Prefilled(self.run_number, len(begun.prompt_tokens), len(begun.prompt_tokens), 0.1))

    def open(self, begun: Started, steps: list[Step]) -> None:
        self.run_number, self.limit, self.active, self.held = begun.run, begun.max_tokens, True, False
        self.began[self.run_number], self.written[self.run_number] = begun, steps
        self.applied_knobs, self.applied_vectors, self.forced, self.banned = self.knobs, self.vectors, [], ()
        self.emit(begun)
        self.breakpoints.begin(self.run_number, len(steps), "".join(one.text for one in steps))

    def run_of(self, run: int, step: int = 0) -> None:
        """Raises UserError for a run, or a step of it, that there is not."""
        if run not in self.began:
            raise UserError(f"there is no run {run}: there are {len(self.began)} of them")
        if not 0 <= step <= len(self.written[run]):
            raise UserError(f"run {run} has no step {step}: go back first")

    def label(self, asked: Label) -> None:
        self.run_of(asked.run)
        self.lanes.label(asked)

    def set_shadow(self, lane: Lane | None) -> None:
        self.lanes.set_shadow(lane)

    def begin_twin(self, asked: Twin) -> None:
        self.run_of(asked.run, asked.step)
        self.lanes.begin_twin(asked)

    def read_all(self) -> None:
        """All is read that there is."""

    def branch(self, asked: Branch) -> int:
        """Tokens of a text are words that stand for the candidates in their order."""
        self.run_of(asked.run, asked.step)
        if not (asked.run == self.run_number and self.active and asked.step == self.n_written):
            begun = replace(
                self.began[asked.run], run=len(self.began) + 1, knobs=self.knobs, vectors=self.vectors,
                parent=asked.run, shared=asked.step, how="kept",
            )  # fmt: skip
            self.open(begun, self.written[asked.run][: asked.step])
        self.forced = [*asked.token_ids, *(1001 + n for n, _ in enumerate(asked.text.split()))]
        self.banned = asked.ban
        return len(self.forced)

    def go(self, run: int) -> None:
        self.run_number, self.active, self.held = run, run not in self.ended, False
        self.emit(Switched(run))
        self.look_ahead()

    def probe(self, asked: AskProbe) -> ProbeAnswer:
        if asked.name == ATTENTION_ROWS:
            return rows(asked)
        if asked.name != STEP:
            return lens(asked)
        knobs = msgspec.convert(asked.options, Knobs)
        made = step(asked.position - len(self.began[asked.run].prompt_tokens), *self.shape(knobs.seed), run=asked.run)
        found = shaped(made, knobs, knobs.banned, None, self.breakpoints.watched)
        return ProbeAnswer(asked.name, asked.run, asked.position, asked.options, (found,), record=asked.record)

    def set_breakpoints(self, wanted: Sequence[Breakpoint]) -> None:
        self.breakpoints.set_breakpoints(wanted)

    def set_watches(self, texts: Sequence[str]) -> None:
        self.breakpoints.set_watches(texts)
        self.resample()

    def stop(self, reason: str = STOPPED) -> None:
        if self.active:
            self.finish(reason)
            if reason == STOPPED:
                self.stopped.add(self.run_number)

    def reopen(self) -> bool:
        if self.active or self.run_number not in self.stopped:
            return False
        self.ended.discard(self.run_number)
        self.stopped.discard(self.run_number)
        self.active = True
        return True

    def abandon(self) -> None:
        self.active = False

    def set_knobs(self, knobs: Knobs) -> None:
        check(knobs)
        self.knobs = knobs
        self.resample()
        self.tell_pending()

    def tell_pending(self) -> None:
        if self.run_number and not self.held:
            self.emit(SettingsPending(self.run_number, self.knobs, self.vectors))

    def set_vector(self, wanted: Vector, rebuild: bool = False) -> None:
        if wanted.name not in [vector.name for vector in self.vectors]:
            if self.run_number:
                raise UserError(f"there is no vector file {wanted.source}: give the path of one")
            self.vectors = self.applied_vectors = (*self.vectors, wanted)
        self.vectors = tuple(wanted if vector.name == wanted.name else vector for vector in self.vectors)
        self.rebuild = rebuild
        self.tell_pending()

    def advance(self) -> Event | None:
        """The next step, when it is due."""
        self.due = max(self.due, time.monotonic() - 0.1)
        time.sleep(max(self.due - time.monotonic(), 0))
        self.due += 1 / self.options.rate
        if self.options.log:
            return self.play()
        made = self.next_step()
        if not self.held and (stop := self.breakpoints.before(made)):
            self.held = True
            self.emit(Proposed(made))
            self.emit(stop)
            return stop
        self.written[self.run_number].append(made)
        self.forced, self.banned, self.held = self.forced[1:], (), False
        self.breakpoints.written(made)
        self.emit(made)
        self.lanes.beside(made)
        if self.n_written >= self.limit:
            self.finish("token limit")
        return made

    def next_step(self) -> Step:
        """As things are set now."""
        if self.knobs != self.applied_knobs:
            self.applied_knobs = self.knobs
            self.emit(KnobsChanged(self.run_number, self.n_written, self.knobs))
        if self.vectors != self.applied_vectors:
            self.applied_vectors = self.vectors
            self.emit(VectorsChanged(self.run_number, self.n_written, self.vectors, self.rebuild))
        made = step(self.n_written, *self.shape(self.knobs.seed), run=self.run_number)
        forced = self.forced[0] if self.forced else None
        return self.lanes.seen(
            shaped(made, self.knobs, (*self.banned, *self.knobs.banned), forced, self.breakpoints.watched)
        )

    def shape(self, seed: int) -> tuple[int, int, int, int, int]:
        prompt = len(self.began[self.run_number].prompt_tokens)
        return prompt, self.options.layers, self.options.heads, self.knobs.n_candidates, seed

    def look_ahead(self, read_all: bool = False) -> None:
        if self.active and not self.options.log:
            self.held = True
            self.emit(Proposed(self.next_step()))

    def resample(self) -> None:
        if self.held:
            self.look_ahead()

    def play(self) -> Event | None:
        """The next step of a given log and what comes with it, as it is."""
        for event in self.given:
            self.emit(event)
            if isinstance(event, Step):
                return event
        self.active = False
        return None

    def finish(self, reason: str) -> None:
        self.active = self.held = False
        self.ended.add(self.run_number)
        self.emit(Ended(self.run_number, reason))


class Engine(ModelSource):
    """The source that an engine serves, but for the model."""

    options: argparse.Namespace

    def bring_up(self, load: Load) -> Any:
        for done in range(4):
            self.emit(Progress("loading weights", done * 90, 270, "MB"))
            time.sleep(self.options.load_seconds / 4)
        if self.options.fail:
            raise UserError("there is no such model: take one of `tui-entropy models`")
        return Session(self.options, load.model.name, self.emit)

    def ask(self, ask: AskProbe, progress: Callable[[float, float], None]) -> ProbeAnswer:
        session: Any = self.session
        session.run_of(ask.run)
        return session.lanes.fan(ask) if ask.name == CONTINUATIONS else session.probe(ask)

    def probes(self) -> tuple[ProbeInfo, ...]:
        return PROBES

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(open_probes=(ATTENTION_ROWS,))

    def memory(self) -> Memory:
        return Memory(612_000_000, None, 4_000_000)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=40.0, help="tokens a second")
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--heads", type=int, default=9)
    parser.add_argument("--load-seconds", type=float, default=0.0)
    parser.add_argument("--log", type=Path, help="msgpack of a list of events to play instead of made-up ones")
    parser.add_argument("--odd", action="store_true", help="write what no terminal should be sent, too")
    parser.add_argument("--fail", action="store_true", help="find no model")
    parser.add_argument("--die", action="store_true", help="end with code 3 before listening")
    parser.add_argument("--garbage", action="store_true", help="say something that is no message, once loaded")
    parser.add_argument("socket", type=Path)
    parser.add_argument("logfile", type=Path)
    options = parser.parse_args(arguments)
    if options.die:
        sys.stderr.write("cannot find libmade_up.so\n")
        return 3
    if options.garbage:
        server = connection.listen(options.socket)
        server.setblocking(True)
        end = server.accept()[0]
        end.recv(1)
        end.send(connection.LENGTH.pack(3) + b"\xc1\xc1\xc1")
        time.sleep(10)
        return 0
    if options.odd:
        WORDS[::3] = [ODD[n % len(ODD)] for n in range(len(WORDS[::3]))]
    Engine.options = options
    serve(options.socket, options.logfile, lambda audience, load: Engine(audience))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
