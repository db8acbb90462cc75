"""A loaded model with its instruments open, and the run it is writing. Tells what happens through `emit`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path

from msgspec.structs import replace
from torch import Tensor

from tui_entropy.engine import vectors
from tui_entropy.engine.decode import AGAIN, TAKE, Context, Controls, Instruments, decode
from tui_entropy.engine.loading import Loaded
from tui_entropy.engine.stops import Stops
from tui_entropy.engine.text import pieces
from tui_entropy.engine.vectors import ControlVector
from tui_entropy.errors import UserError
from tui_entropy.knobs import check
from tui_entropy.records import (
    AskAttention,
    AttentionRows,
    Breakpoint,
    Ended,
    Event,
    Knobs,
    KnobsChanged,
    Prefilled,
    PromptScores,
    Proposed,
    Refused,
    Started,
    Step,
    Vector,
    VectorsChanged,
    Write,
)


class Session:
    """What is set (knobs, vectors) and what is being written. Used by the worker and by the headless command."""

    def __init__(self, loaded: Loaded, probes: Instruments, emit: Callable[[Event], None]) -> None:
        self.loaded = loaded
        self.probes = probes
        self.emit = emit
        self.knobs = Knobs()
        self.directions: dict[str, ControlVector] = {v.name: v for v in vectors.built_in(loaded.card)}
        self.vectors = tuple(vectors.setting(v, "built in") for v in self.directions.values())
        self.context: Context | None = None
        self.run = 0
        self.n_written = 0
        self.stops = Stops(loaded.card, loaded.codec, emit)
        self.proposed: Step | None = None
        """Chosen and not written yet: a person looks at it."""
        self._applied = Controls(self.knobs, {})
        self._applied_vectors = self.vectors
        self._writing: Generator[Prefilled | PromptScores | Step, str | None, str] | None = None

    @property
    def active(self) -> bool:
        """There is a next token to ask for."""
        return self._writing is not None

    def begin(self, write: Write) -> None:
        """Stop what is being written and start a new run. Raises UserError, and then the old run goes on."""
        check(write.knobs)
        chat = self.loaded.card.has_chat_template if write.chat is None else write.chat
        ids = self.loaded.codec.encode(write.prompt, write.system, chat)
        context_size = self.loaded.card.context
        if len(ids) >= context_size:
            raise UserError(
                f"the prompt has {len(ids)} tokens and {self.loaded.card.name} reads at most {context_size}, "
                "the answer included: shorten the prompt"
            )
        self.stop()
        self.run, self.n_written, self.knobs = self.run + 1, 0, write.knobs
        self._applied_vectors = self.vectors
        self._applied = self._made(vectors.pushes(self.vectors, self.directions))
        self.context = None  # the old keys and values go before the new ones come
        self.context = Context(self.loaded, ids, write.max_tokens)
        self.emit(
            Started(
                run=self.run,
                prompt=write.prompt,
                system=write.system,
                chat=chat,
                pieces=pieces(self.loaded.codec, ids),
                knobs=self.knobs,
                vectors=self.vectors,
                max_tokens=write.max_tokens,
            )
        )
        self.stops.begin(self.run)
        self._writing = decode(self.loaded, self.probes, self.context, self._controls, self.run, write.score_prompt)

    def advance(self) -> Event | None:
        """One stretch of the prompt or one token; None at the end. Emits it either way.

        What stops it before a token is written is given back in place of the token: a Paused.
        """
        if self.proposed is None:
            event = self._next()
            if not isinstance(event, Step):
                return event
            self.proposed = event
            if stop := self.stops.before(event):
                self.emit(Proposed(event))
                self.emit(stop)
                return stop
        return self._write(self.proposed)

    def look_ahead(self) -> None:
        """Hold the next token up for a person to see before it is written; not while the prompt is being read."""
        while self.active and self.proposed is None and not self.reading:
            event = self._next()
            if isinstance(event, Step):
                self.proposed = event
                self.emit(Proposed(event))
                if stop := self.stops.before(event):
                    self.emit(stop)

    @property
    def reading(self) -> bool:
        """There is more to read than the newest token."""
        return self.context is not None and self.context.n_read < self.context.n_tokens - 1

    def _next(self) -> Event | None:
        assert self._writing is not None
        try:
            event: Event = next(self._writing)
        except StopIteration as end:
            self._writing = None
            event = Ended(self.run, end.value)
            self.emit(event)
            return None
        if not isinstance(event, Step):
            self.emit(event)
        return event

    def _write(self, step: Step) -> Step:
        """The proposal is the next token of the text."""
        assert self._writing is not None
        self._writing.send(TAKE)
        self.proposed = None
        self.n_written += 1
        self.stops.written(step)
        self.emit(step)
        return step

    def _propose_again(self) -> None:
        """What is held up is chosen once more, as things are set now; the model is not asked."""
        if self.proposed is not None and self._writing is not None:
            step = self._writing.send(AGAIN)
            assert isinstance(step, Step)
            self.proposed = step
            self.emit(Proposed(step))

    def stop(self, reason: str = "stopped") -> None:
        """End the run, if there is one. Its keys and values stay, so that it can still be looked at."""
        if self._writing is not None:
            self._writing.close()
            self._writing = self.proposed = None
            self.emit(Ended(self.run, reason))

    def abandon(self) -> None:
        """Forget the run after a failure, when not even closing it can be trusted."""
        self._writing = self.proposed = None

    def set_knobs(self, knobs: Knobs) -> None:
        """Acts from the next token on. Raises UserError for a value that no chain can have."""
        check(knobs)
        self.knobs = knobs
        self._propose_again()

    def set_breakpoints(self, wanted: Sequence[Breakpoint]) -> None:
        """Acts from the next proposal on. Raises UserError for an expression that is wrong."""
        self.stops.set_breakpoints(wanted)
        self._follow()

    def set_watches(self, texts: Iterable[str]) -> None:
        """Acts from the next token on. Raises UserError for a text that is no token."""
        self.stops.set_watches(texts)
        self._follow()

    def _follow(self) -> None:
        if self.stops.watched != self._applied.watched:
            self._propose_again()

    def set_vector(self, wanted: Vector) -> None:
        """Acts from the next token on. One that is not known yet is read from its file first. Raises UserError.

        A known vector is meant by its name where `source` is its own source or that name.
        """
        for known in self.vectors:
            if wanted.name == known.name and wanted.source in (known.source, known.name):
                setting = replace(wanted, source=known.source, blocks=known.blocks)
                self.vectors = tuple(setting if v is known else v for v in self.vectors)
                return
        vector = vectors.load(Path(wanted.source))
        vectors.check(vector, self.loaded.card.n_layers, self.loaded.card.d_model)
        taken = self.directions.keys()
        name = next(n for n in (wanted.name, *(f"{wanted.name} {i}" for i in count(2))) if n not in taken)
        self.directions[name] = vector
        self.vectors += (replace(wanted, name=name, blocks=tuple(sorted(vector.directions))),)
        self._applied_vectors += (replace(self.vectors[-1], on=False),)
        self.emit(VectorsChanged(self.run, self.n_written, self._applied_vectors))

    def attention(self, ask: AskAttention) -> AttentionRows | None:
        """Rows of the run's kept queries over its keys. None before the first run."""
        if self.context is None:
            return None
        return self.probes.attention.rows(self.context.cache, ask, self.run)

    @property
    def cache_bytes(self) -> int:
        """Keys, values and kept queries."""
        kept = self.probes.attention.kept_bytes
        return kept + (self.context.bytes if self.context else 0)

    def _controls(self) -> Controls:
        """Asked by the loop once per forward pass: what is set now becomes what is applied."""
        if self.stops.watched != self._applied.watched:
            self._applied = self._made(self._applied.pushes)
        if self.knobs != self._applied.knobs:
            self._applied = self._made(self._applied.pushes)
            self.emit(KnobsChanged(self.run, self.n_written, self.knobs))
        if self.vectors != self._applied_vectors:
            self._applied_vectors = self.vectors
            self._applied = self._made(vectors.pushes(self.vectors, self.directions))
            self.emit(VectorsChanged(self.run, self.n_written, self.vectors))
        return self._applied

    def _made(self, pushes: Mapping[int, Tensor]) -> Controls:
        """What is set, with what the tokenizer says of its texts."""
        knobs, codec, clarifier = self.knobs, self.loaded.codec, None
        if knobs.clarifier and knobs.adaptive != "off":
            clarifier = codec.single_token(knobs.clarifier)
            if clarifier is None:
                self.emit(
                    Refused(
                        f"the clarifier {knobs.clarifier!r} is not one token of this model, so nothing is asked: set "
                        "another one"
                    )
                )
        breakers = codec.containing(knobs.dry_breakers) if knobs.dry_multiplier else frozenset()
        return Controls(knobs, pushes, clarifier, breakers, self.stops.watched)
