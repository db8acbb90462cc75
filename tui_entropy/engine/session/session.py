"""A loaded model with its instruments open, and the run it is writing. Tells what happens through `emit`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace
from torch import Tensor

from tui_entropy.breakpoints.controller import Stops
from tui_entropy.core.errors import UserError
from tui_entropy.engine.decoding.instruments import Instruments
from tui_entropy.engine.decoding.loop import COMMIT, RESAMPLE, decode
from tui_entropy.engine.measure.finite import NotFinite
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.batching import leave_batch
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.session.branching import Branches
from tui_entropy.engine.session.comparison import Comparisons
from tui_entropy.engine.session.continuations import fan
from tui_entropy.engine.session.run import Run
from tui_entropy.engine.steering import control_vector
from tui_entropy.engine.steering.control_vector import ControlVector
from tui_entropy.engine.tokenization.tokenizer import TextStream, pieces
from tui_entropy.records.commands import AskAttention, SampleContinuations, Write
from tui_entropy.records.events import (
    AttentionRows,
    Ended,
    Event,
    KnobsChanged,
    Prefilled,
    PromptScores,
    Proposed,
    Refused,
    Started,
    VectorsChanged,
)
from tui_entropy.records.knobs import check
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Breakpoint, Lane, Vector
from tui_entropy.records.step import Step


class Session:
    """What is set (knobs, vectors) and what is being written. Used by the worker and by the headless command."""

    def __init__(
        self, loaded: Loaded, probes: Instruments, emit: Callable[[Event], None], kept_cache: int = 0
    ) -> None:
        """kept_cache: bytes that may be kept beside the run that is written, for going back and to others."""
        self.loaded = loaded
        self.probes = probes
        self.emit = emit
        self.knobs = Knobs()
        self.directions: dict[str, ControlVector] = {v.name: v for v in control_vector.built_in(loaded.card)}
        self.vectors = tuple(control_vector.setting(v, "built in") for v in self.directions.values())
        self.run: Run | None = None
        """The run that is looked at and written on."""
        self.branches = Branches(self, kept_cache)
        self.stops = Stops(loaded.card, loaded.codec, emit)
        self.proposed: Step | None = None
        """Chosen and not written yet: a person looks at it."""
        self.lanes = Comparisons(self)
        self._runs = 0
        self._sums = control_vector.Sums()
        self._writing: Generator[Prefilled | PromptScores | Step, str | None, str] | None = None

    @property
    def active(self) -> bool:
        """There is a next token to ask for."""
        return self.first_writes or self.lanes.writing

    @property
    def first_writes(self) -> bool:
        """Not only a lane beside it."""
        return self._writing is not None

    @property
    def sequence(self) -> TokenSequence | None:
        return self.run.sequence if self.run else None

    @property
    def started(self) -> Started | None:
        return self.run.started if self.run else None

    @property
    def run_number(self) -> int:
        """Number of the present run; 0 before the first."""
        return self.run.number if self.run else 0

    @property
    def n_written(self) -> int:
        return self.run.sequence.n_written if self.run else 0

    @property
    def chat(self) -> bool:
        return self.started is not None and self.started.chat

    def new_number(self) -> int:
        """For one more run."""
        self._runs += 1
        return self._runs

    def begin(self, write: Write) -> None:
        """Stop what is being written and start a new run. Raises UserError, and then the old run goes on."""
        check(write.knobs, self.loaded.card.vocab)
        if write.parent is not None:
            self.branches.run(write.parent)
        chat = write.chat
        if chat is None:  # a chat of nothing asks nothing: an empty prompt is where a text begins
            chat = self.loaded.card.has_chat_template and (write.prompt, write.system) != ("", None)
        ids = self.loaded.codec.encode(write.prompt, write.system, chat)
        context_size = self.loaded.card.context
        if len(ids) >= context_size:
            raise UserError(
                f"the prompt has {len(ids)} tokens and {self.loaded.card.name} reads at most {context_size}, "
                "the answer included: shorten the prompt"
            )
        self.stop()
        self.leave()
        self.knobs = write.knobs
        started = Started(
            run=self.new_number(),
            prompt=write.prompt,
            system=write.system,
            chat=chat,
            pieces=pieces(self.loaded.codec, ids),
            knobs=self.knobs,
            vectors=self.vectors,
            max_tokens=write.max_tokens,
            parent=write.parent,
        )
        self.emit(started)
        for what in self.loaded.codec.template.rendered(write.prompt, write.system).left_out if chat else ():
            self.emit(Refused(f"the model's chat template leaves {what} out, so the model does not read it", True))
        sequence = TokenSequence(self.loaded, ids, write.max_tokens)
        run = Run(started, sequence, self.set_now(), self.vectors, write.score_prompt)
        self.branches.add(run)
        self.enter(run)

    def leave(self) -> None:
        """Nothing is written any more, and no run ends by it. No lane shares its forward passes."""
        if self._writing is not None:
            self._writing.close()
        self._writing = self.proposed = None
        if self.sequence is not None:
            self.lanes.leave(self.sequence)
            leave_batch(self.sequence)

    def enter(self, run: Run) -> None:
        """This is the present run, and it is written on from now on unless it has ended."""
        self.run = run
        stream = TextStream(self.loaded.codec, run.sequence.prompt.tolist())
        so_far = "".join(map(stream.push, run.sequence.written.tolist()))
        self.stops.begin(run.number, run.sequence.n_written, so_far)
        self.resume()

    def resume(self) -> None:
        """Write on in the present run, all of which is read but the newest token and what is behind."""
        run = self.run
        if run is not None and run.ended is None:
            sequence, number = run.sequence, run.number
            self._writing = decode(self.loaded, self.probes, sequence, self._controls, number, run.score_prompt)

    def take_over(self, run: Run) -> None:
        """What was set in a run is set from now on. A vector that is new since is off."""
        self.knobs, then = run.controls.knobs, {vector.name: vector for vector in run.vectors}
        self.vectors = tuple(then.get(vector.name, replace(vector, on=False)) for vector in self.vectors)

    def advance(self) -> Event | None:
        """One stretch of the prompt or one token; None at the end. Emits it either way.

        What stops it before a token is written is given back in place of the token: a Paused.
        """
        if not self.first_writes:
            return self.lanes.advance()
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

    def look_ahead(self, read_all: bool = False) -> None:
        """Hold the next token up for a person to see before it is written. While the prompt is being read only if
        all is to be read for it."""
        if read_all:
            self.read_all()
        while self.first_writes and self.proposed is None and (read_all or not self.reading):
            self.branches.rewinder.checkpoint(at_once=not self.reading)
            event = self._next()
            if isinstance(event, Step):
                self.proposed = event
                self.emit(Proposed(event))
                if stop := self.stops.before(event):
                    self.emit(stop)
        if not self.reading:
            self.lanes.look_ahead()

    def read_all(self) -> None:
        """What was read once and is no longer in the cache, at once."""
        if sequence := self.sequence:
            for done in self.branches.rewinder.read_missing(sequence, sequence.n_tokens - 1):
                self.emit(Prefilled(self.run_number, done, sequence.n_tokens, sequence.elapsed_seconds))

    @property
    def reading(self) -> bool:
        """There is more to read than the newest token."""
        return self.sequence is not None and self.sequence.n_pending > 0

    def _next(self) -> Event | None:
        assert self._writing is not None and self.run is not None
        try:
            event: Event = next(self._writing)
        except StopIteration as end:
            self._end(end.value)
            return None
        except NotFinite as odd:
            self._end(str(odd), failed=True)
            return None
        self.branches.rewinder.checkpoint()
        if not isinstance(event, Step):
            self.emit(event)
        return event

    def _end(self, reason: str, failed: bool = False) -> None:
        assert self.run is not None
        self._writing, self.run.ended = None, reason
        self.emit(Ended(self.run_number, reason, failed))

    def _write(self, step: Step) -> Step:
        """The proposal is the next token of the text."""
        assert self._writing is not None
        self._writing.send(COMMIT)
        self.proposed = None
        self.stops.written(step)
        self.emit(step)
        self.lanes.advance()
        return step

    def propose_again(self) -> None:
        """What is held up is chosen once more, as things are set now; the model is not asked."""
        if self.proposed is not None and self._writing is not None:
            step = self._writing.send(RESAMPLE)
            assert isinstance(step, Step)
            self.proposed = step
            self.emit(Proposed(step))
        self.lanes.propose_again()

    def stop(self, reason: str = "stopped") -> None:
        """End the run, if there is one. Its keys and values stay, so that it can still be looked at."""
        if self._writing is not None:
            self.leave()
            assert self.run is not None
            self.run.ended = reason
            self.emit(Ended(self.run_number, reason))
        self.lanes.stop(reason)

    def abandon(self) -> None:
        """Write no more after a failure, when not even closing the loop can be trusted. To go to a run, this one or
        another, begins anew from its ids."""
        self._writing = self.proposed = None
        self.branches.abandon()
        self.lanes.abandon()

    def set_knobs(self, knobs: Knobs) -> None:
        """Acts from the next token on. Raises UserError for a value that no chain can have."""
        check(knobs, self.loaded.card.vocab)
        self.knobs = knobs
        self.propose_again()

    def set_breakpoints(self, wanted: Sequence[Breakpoint]) -> None:
        """Acts from the next proposal on. Raises UserError for an expression that is wrong."""
        self.stops.set_breakpoints(wanted)
        self._follow()

    def set_watches(self, texts: Iterable[str]) -> None:
        """Acts from the next token on. Raises UserError for a text that is no token."""
        self.stops.set_watches(texts)
        self._follow()

    def _follow(self) -> None:
        if self.run is not None and self.stops.watched != self.run.controls.watched:
            self.propose_again()

    def set_vector(self, wanted: Vector, rebuild: bool = False) -> None:
        """Acts from the next token on, and what is held up is read and chosen again; keys and values stay as they
        are, or with `rebuild` the whole text is read again. A vector that is not known yet is read from its file
        first. Raises UserError.

        A known vector is meant by its name where `source` is its own source or that name.
        """
        known = next((v for v in self.vectors if v.name == wanted.name and wanted.source in (v.source, v.name)), None)
        if known is None:
            self._add_vector(wanted)
        else:
            setting = replace(wanted, source=known.source, blocks=known.blocks)
            self.vectors = tuple(setting if v is known else v for v in self.vectors)
        if self.run is None:
            return
        held_up = self.proposed is not None
        if rebuild and self.run.sequence.prefix_ids:
            self.branches.rebuild()
        elif held_up and self.run.controls.offsets is not self.offsets():
            self.leave()
            self.branches.rewinder.activate(self.run.sequence)
            self.resume()
        if held_up and self.proposed is None:
            self.look_ahead(read_all=True)
        else:
            self.propose_again()

    def _add_vector(self, wanted: Vector) -> None:
        """From its file, under a name of its own."""
        vector = control_vector.load(Path(wanted.source))
        control_vector.check(vector, self.loaded.card.n_layers, self.loaded.card.d_model)
        name = control_vector.free_name(wanted.name, self.directions)
        self.directions[name] = vector
        setting = replace(wanted, name=name, blocks=tuple(sorted(vector.directions)))
        self.vectors += (setting,)
        applied = self.vectors
        if self.run is not None:  # where a text is being written it acts from the next token on
            self.run.vectors = applied = (*self.run.vectors, replace(setting, on=False))
        self.emit(VectorsChanged(self.run_number, self.n_written, applied))

    def set_shadow(self, lane: Lane | None) -> None:
        """Acts from the next step on, and on the one that is held up. Raises UserError."""
        self.lanes.set_shadow(lane)
        self.propose_again()

    def fan(self, ask: SampleContinuations) -> None:
        """Short continuations from before a step of a run. Raises UserError."""
        run = self.branches.run(ask.run)
        self.branches.check_step(run, ask.step)
        with self.branches.rewinder.snapshot(run.sequence, ask.step) as before:
            self.emit(fan(self.loaded, self.probes, before, self.set_now(), ask))

    def attention(self, ask: AskAttention) -> AttentionRows | None:
        """Rows of the present run's queries over its keys. None before the first run."""
        return self.branches.rows(ask)

    @property
    def way(self) -> str:
        """How decode steps run: 'graph' or 'plain'; empty where the device knows only one way."""
        if self.loaded.model.device.type != "cuda":
            return ""
        graph_decoder = self.probes.graph_decoder
        return "graph" if graph_decoder and not graph_decoder.step.graphs.failed else "plain"

    @property
    def cache_bytes(self) -> int:
        """Keys, values and kept queries."""
        kept = self.probes.attention.kept_bytes
        return kept + (self.sequence.bytes if self.sequence else 0)

    def _controls(self) -> Controls:
        """Asked by the loop once per forward pass and per choice: what is set now becomes what is applied."""
        run = self.run
        assert run is not None
        was, had = run.controls, run.vectors
        offsets = self.offsets()
        if (was.knobs, was.watched) != (self.knobs, self.stops.watched) or was.offsets is not offsets:
            run.controls = self.set_now()
        run.vectors = self.vectors
        if was.knobs != self.knobs:
            self.emit(KnobsChanged(run.number, self.n_written, self.knobs))
        if had != self.vectors:
            self.emit(VectorsChanged(run.number, self.n_written, self.vectors))
        self.lanes.settle(run.sequence, run.controls)
        return run.controls

    def set_now(self) -> Controls:
        """What is set, as the loop needs it."""
        return self.made(self.offsets(), self.knobs)

    def offsets(self) -> Mapping[int, Tensor]:
        """What the vectors that are set add up to. The same vectors give the same object."""
        return self._sums.of(self.vectors, self.directions)

    def made(self, offsets: Mapping[int, Tensor], knobs: Knobs) -> Controls:
        """What is set, with what the tokenizer says of its texts."""
        codec, clarifier = self.loaded.codec, None
        if knobs.clarifier and knobs.adaptive != "off":
            clarifier = codec.single_token(knobs.clarifier)
            if clarifier is None:
                self.emit(
                    Refused(
                        f"the clarifier {knobs.clarifier!r} is not one token of this model, so nothing is asked: set "
                        "another one",
                        notice=True,
                    )
                )
        breakers = codec.containing(knobs.dry_breakers) if knobs.dry_multiplier else frozenset()
        return Controls(knobs, offsets, clarifier, breakers, self.stops.watched)
