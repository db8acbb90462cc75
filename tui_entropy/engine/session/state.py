"""The state that a session's parts share: a loaded model, what is set, and the runs with the one that is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace
from torch import Tensor

from tui_entropy.breakpoints.condition import Condition
from tui_entropy.breakpoints.controller import BreakpointController
from tui_entropy.breakpoints.parser import TEXT_TAIL_CHARS, parse
from tui_entropy.core.errors import UserError
from tui_entropy.engine.attribution.scaled_parts import scaled_part
from tui_entropy.engine.decoding.instruments import Instruments
from tui_entropy.engine.lenses import files as lens_files
from tui_entropy.engine.lenses.lens import LOGIT_LENS, Lens
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.session.run import Run
from tui_entropy.engine.session.run_writer import RunWriter
from tui_entropy.engine.steering import control_vector
from tui_entropy.engine.steering.control_vector import ControlVector
from tui_entropy.engine.steering.plan import OffsetCache, Offsets, SteeringPlan
from tui_entropy.engine.tokenization.token_decoder import CONTEXT_TOKENS
from tui_entropy.engine.tokenization.tokenizer import DecodeStream
from tui_entropy.records.events import Event, Refused
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Vector
from tui_entropy.records.step import Step


class SessionState:
    """Owned by a session and handed to its parts, which know nothing of each other."""

    def __init__(self, loaded: Loaded, instruments: Instruments, emit: Callable[[Event], None]) -> None:
        self.loaded = loaded
        self.instruments = instruments
        self.emit = emit
        self.knobs = Knobs()
        self.directions: dict[str, ControlVector] = {v.name: v for v in control_vector.built_in(loaded.card)}
        self.vectors = tuple(control_vector.setting(v, "built in") for v in self.directions.values())
        self.breakpoints = BreakpointController(loaded.card, loaded.tokenizer, emit)
        self.runs: dict[int, Run] = {}
        self.run: Run | None = None
        """The run that is looked at and written on."""
        self.writer: RunWriter | None = None
        """Writes that run; None once it has ended."""
        self._n_runs = 0
        self._known_offsets = OffsetCache()
        self._lenses: dict[str, Lens | None] = {}
        """By the file that is named; None where it holds none."""
        self._conditions: dict[str, Condition] = {}
        """Those of vectors, by their text."""

    # --- Runs --------------------------------------------------------------------------------------------------

    @property
    def sequence(self) -> TokenSequence | None:
        return self.run.sequence if self.run else None

    @property
    def run_number(self) -> int:
        """Number of the present run; 0 before the first."""
        return self.run.number if self.run else 0

    @property
    def request(self) -> str:
        """By which an application knows the present run; empty for a person's."""
        return self.run.started.request if self.run else ""

    @property
    def n_written(self) -> int:
        return self.run.sequence.n_written if self.run else 0

    @property
    def proposed(self) -> Step | None:
        """Chosen and not written yet: a person looks at it."""
        return self.writer.proposed if self.writer else None

    def new_number(self) -> int:
        """For one more run."""
        self._n_runs += 1
        return self._n_runs

    def adopt(self, runs: Mapping[int, Run]) -> None:
        """These runs are there, and further ones are counted on from theirs."""
        self.runs |= runs
        self._n_runs = max(self.runs, default=0)

    def run_of(self, number: int) -> Run:
        """Raises UserError for one that is not there, or not any more."""
        run = self.runs.get(number)
        if run is None:
            raise UserError(f"there is no run {number}: there are {len(self.runs)} of them, choose one of those")
        return run

    def check_step(self, run: Run, step: int) -> None:
        """Raises UserError for a step that the run has not come to."""
        written = run.sequence.n_written
        if not 0 <= step <= written:
            raise UserError(f"run {run.number} has {written} steps, so there is no step {step} in it: go back first")

    # --- What is set ---------------------------------------------------------------------------------------------

    def controls(self) -> Controls:
        """The settings of the next step, as the loop needs them."""
        return self.controls_with(self.offsets(), self.knobs)

    def offsets(self) -> Offsets:
        """The sum of the vectors that are set, at the next step of the present run."""
        return self.offsets_of(self.vectors, self.sequence)

    def offsets_of(
        self, vectors: tuple[Vector, ...], sequence: TokenSequence | None, step: int | None = None
    ) -> Offsets:
        """The sum of vectors in a text at a step, from 0 on; at its next one if none is named."""
        at = step if step is not None else sequence.n_written if sequence else 0
        key = SteeringPlan(vectors).at(at + 1, sequence.met[at] if sequence else ())
        return self._known_offsets.of(key, self.directions)

    def judge(self, sequence: TokenSequence, vectors: tuple[Vector, ...], step: Step) -> None:
        """Keep which conditions of vectors a step met that was just written. One that takes too long is not met."""
        for text in SteeringPlan(vectors).conditions:
            if text not in self._conditions:
                self._conditions[text] = parse(text, self.loaded.card)
            condition = self._conditions[text]
            written = self.written_text(sequence) if condition.on_text else ""
            with suppress(TimeoutError):
                if condition.holds(step, written, self.breakpoints.watches):
                    sequence.met[-1] |= {text}

    def written_text(self, sequence: TokenSequence) -> str:
        """The end of what is written in a sequence, a character more than conditions look at."""
        first = sequence.n_tokens - min(sequence.n_written, TEXT_TAIL_CHARS + 1)
        before, newest = sequence.ids[:first], sequence.ids[first:]
        stream = DecodeStream(self.loaded.tokenizer, before[-CONTEXT_TOKENS:].tolist())
        return "".join(map(stream.push, newest.tolist()))[-TEXT_TAIL_CHARS - 1 :]

    def controls_with(self, offsets: Mapping[int, Tensor], knobs: Knobs) -> Controls:
        """These settings, with what the tokenizer says of their texts."""
        tokenizer, clarifier = self.loaded.tokenizer, None
        if knobs.clarifier and knobs.adaptive != "off":
            clarifier = tokenizer.encode_single_token(knobs.clarifier)
            if clarifier is None:
                self.emit(
                    Refused(
                        f"the clarifier {knobs.clarifier!r} is not one token of this model, so nothing is asked: set "
                        "another one",
                        notice=True,
                    )
                )
        breakers = tokenizer.tokens_containing(knobs.dry_breakers) if knobs.dry_multiplier else frozenset()
        return Controls(knobs, offsets, clarifier, breakers, self.breakpoints.watched, self._lens_of(knobs))

    def _lens_of(self, knobs: Knobs) -> Lens | None:
        """What layers are read through; None for a file that holds no lens of this model, which is told once."""
        if not (knobs.lens and knobs.lens_file):
            return LOGIT_LENS
        file = knobs.lens_file
        if file not in self._lenses:
            self._lenses.clear()  # one at a time: they are large
            try:
                self._lenses[file] = lens_files.load(Path(file).expanduser(), self.loaded)
            except UserError as mistake:
                self._lenses[file] = None
                self.emit(Refused(f"no layer is read: {mistake}", notice=True))
        return self._lenses[file]

    def find_part(self, wanted: Vector) -> None:
        """Know where a part is scaled, before it is. Raises UserError where that cannot be told."""
        place = wanted.blocks[0], wanted.part
        self.instruments.steering.parts[place] = scaled_part(self.loaded, self.instruments, *place)

    def known_vector(self, wanted: Vector) -> Vector | None:
        """The one of this name that is meant, by its own source or by its name; None for one that is new."""
        meant = (wanted.source, str(Path(wanted.source).absolute()))
        named = (one for one in self.vectors if one.name == wanted.name)
        return next((one for one in named if one.source in meant or wanted.source == one.name), None)

    def add_vector(self, wanted: Vector, made: ControlVector | None = None) -> Vector:
        """A vector from its file, or one that is `made`, under a name of its own; a part that is scaled is looked
        for. Raises UserError. Returns its setting."""
        if wanted.part:
            self.find_part(wanted)
            self.vectors += (wanted,)
            return wanted
        vector = control_vector.load(Path(wanted.source)) if made is None else made
        control_vector.check(vector, self.loaded.card.n_layers, self.loaded.card.d_model)
        name = control_vector.free_name(wanted.name, self.directions)
        self.directions[name] = vector
        source = wanted.source if made is not None else str(Path(wanted.source).absolute())  # found from anywhere
        blocks = tuple(sorted(vector.directions))
        setting = replace(wanted, name=name, source=source, blocks=blocks, hash=vector.hash)
        self.vectors += (setting,)
        return setting

    def restore(self, run: Run) -> None:
        """Set again what was set in a run. A vector that is new since is off."""
        self.knobs, then = run.controls.knobs, {vector.name: vector for vector in run.vectors}
        self.vectors = tuple(then.get(vector.name, replace(vector, on=False)) for vector in self.vectors)
