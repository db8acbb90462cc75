"""The stops that a person wants, at breakpoints and the ends of sentences and lines; and what is watched.

All of it is judged on a proposal: what is written already, and the step that comes next. No torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from msgspec.structs import replace

from tui_entropy.breakpoints.condition import Condition, ConditionError
from tui_entropy.breakpoints.parser import TEXT_TAIL_CHARS, parse
from tui_entropy.core.errors import UserError
from tui_entropy.records.events import BreakpointsChanged, Event, Paused, WatchesChanged
from tui_entropy.records.model import ModelCard
from tui_entropy.records.settings import UNTIL, Breakpoint, Watch
from tui_entropy.records.step import Step

CLOSERS = "\"'”’»›)\\]}*_"
SENTENCE = re.compile(rf"[.!?…][{CLOSERS}]*\s*$")
"""The end of one in most scripts, if white space comes after it: not the point of 3.14 or of example.com."""
LISTED = re.compile(r"(^|\n)\s*[0-9]+\.\s*$")
"""The number of a thing in a list."""
FULL_STOP = re.compile(rf"[。！？｡][{CLOSERS}」』）】]*\s*$")
"""That of a script that puts no space there."""
BEGINS = re.compile(rf"[{CLOSERS}」』）】.!?…。！？｡]")
"""What still belongs to the sentence before."""
DOUBTED = 4
"""Tokens that are read alone to see whether that tells what was unknown: some numbers need two or three keys."""
NOTICED = 64
"""Characters before the proposal in which the end of a sentence is looked for."""


class TokenizerLike(Protocol):
    """The part of a tokenizer that is asked here."""

    def encode_continuation(self, text: str) -> list[int]: ...

    def token_bytes(self, token_id: int) -> bytes: ...

    @property
    def eos_ids(self) -> frozenset[int]: ...


class BreakpointController:
    """The breakpoints and watches, judged step by step. What is set stays set from one run to the next."""

    def __init__(self, card: ModelCard, tokenizer: TokenizerLike, emit: Callable[[Event], None]) -> None:
        self.card, self.tokenizer, self.emit = card, tokenizer, emit
        self.breakpoints: tuple[Breakpoint, ...] = ()
        self.watches: tuple[Watch, ...] = ()
        """Those that were asked for, and those that breakpoints name."""
        self._conditions: dict[int, Condition] = {}
        self._asked: tuple[str, ...] = ()
        self._until = ""
        self._run = self._index = 0
        self._text = ""
        """The newest of what is written, as far as conditions look."""
        self._since = ""
        """The same of what was written since a place was given to run to."""
        self._judged: Step | None = None
        self._true: dict[int, None] = {}
        """Ids of the breakpoints that are true of the step judged last, in their order."""
        self._were: set[int] = set()
        """The same of the step that was written last."""
        self._unknown: set[int] = set()
        """Ids of those that hang on what is unknown of the step judged last."""
        self._doubted: dict[int, int] = {}
        """Those that were unknown of a step that was read among others -> how many are still read alone for it."""
        self._settled: dict[int, bool] = {}
        """Those of which it is known whether the pass of a single token tells more, such as measures of heads."""

    @property
    def watched(self) -> tuple[int, ...]:
        """Ids of the tokens that are followed."""
        return tuple(watch.token_id for watch in self.watches)

    def begin(self, run: int, index: int = 0, text: str = "") -> None:
        """Tell, from now on, of this run, in which so many steps are written, which read so."""
        self._run, self._index = run, index
        self._text, self._since, self._until = text[-TEXT_TAIL_CHARS - 1 :], "", ""
        self._judged, self._were = None, set()
        self._forget_unknown()
        if self.watches:
            self.emit(WatchesChanged(run, index, self.watches))

    def recall(self, breakpoints: Sequence[Breakpoint], watches: Sequence[Watch]) -> None:
        """These were set before, as was told then. Raises UserError for an expression that is wrong."""
        try:
            self._conditions = {one.id: parse(one.expression, self.card) for one in breakpoints}
        except ConditionError as mistake:
            raise UserError(str(mistake), mistake.place()) from None
        named = {text for condition in self._conditions.values() for text in condition.followed}
        self.breakpoints, self.watches = tuple(breakpoints), tuple(watches)
        self._asked = tuple(watch.text for watch in watches if watch.text not in named)

    def recall_newest(self, step: Step) -> None:
        """This step is the newest of the text that `begin` was told."""
        self._text = self._text.removesuffix(step.text)
        self.written(step)

    def run_to(self, until: str = "") -> None:
        """Set where to stop next, one of UNTIL. Raises UserError for another word."""
        if until not in UNTIL:
            raise UserError(f"nothing can be run to that is called {until!r}: take one of {', '.join(UNTIL[1:])}")
        self._until, self._since = until, ""

    def set_breakpoints(self, breakpoints: Sequence[Breakpoint]) -> None:
        """All that there are to be. Raises UserError, with the expression and a caret, and then none is changed."""
        if len({one.id for one in breakpoints}) < len(breakpoints):
            raise UserError("two of these breakpoints have the same number: give each one of its own")
        try:
            conditions = {one.id: parse(one.expression, self.card) for one in breakpoints}
        except ConditionError as mistake:
            raise UserError(str(mistake), mistake.place()) from None
        self._watch(self._asked, conditions.values())
        same = {id for id, was in self._conditions.items() if id in conditions and conditions[id].text == was.text}
        self._conditions, self._judged, self._were = conditions, None, self._were & same
        self._forget_unknown()
        self._tell(replace(one, note="") if one.enabled else one for one in breakpoints)

    def set_watches(self, texts: Iterable[str]) -> None:
        """All that are to be followed. Raises UserError for one of no token, and then none is changed."""
        self._asked = self._watch(tuple(texts), self._conditions.values())

    def _watch(self, asked: tuple[str, ...], conditions: Iterable[Condition]) -> tuple[str, ...]:
        texts = dict.fromkeys([*asked, *(text for condition in conditions for text in condition.followed)])
        watches = tuple(map(self._found, texts))
        if watches != self.watches:
            self.watches = watches
            self.emit(WatchesChanged(self._run, self._index, watches))
        return asked

    def _found(self, text: str) -> Watch:
        ids = self.tokenizer.encode_continuation(text)
        if not ids:
            raise UserError(f"{text!r} is no token of this model, so nothing can be followed: give another text")
        return Watch(text, ids[0], self.tokenizer.token_bytes(ids[0]), len(ids))

    def before(self, step: Step) -> Paused | None:
        """The stop that is due before this step is written, and why; hits are counted."""
        hits = self._hits(step)
        for id, left in tuple(self._doubted.items()):
            if id not in self._unknown or left == 1:
                self._settled[id] = id not in self._unknown
                del self._doubted[id]
            else:
                self._doubted[id] = left - 1
        if hits:
            self._tell(replace(one, hits=one.hits + 1) if one.id in hits else one for one in self.breakpoints)
            return Paused(self._run, f"breakpoint: {self._conditions[hits[0]].canonical()}", hits[0])
        if self._until and self._there("\n" if step.token_id in self.tokenizer.eos_ids else step.text):
            return Paused(self._run, f"end of the {self._until}")
        return None

    def wants_single_pass(self, step: Step) -> bool:
        """Whether a step that was read among others is to be read alone before it is written: something stops before
        it, or may, where a condition hangs on what only that pass tells. No hit is counted."""
        hits = self._hits(step)
        self._doubted = dict.fromkeys(self._unknown - self._settled.keys(), DOUBTED)
        return bool(hits or self._doubted)

    @property
    def needs_single_passes(self) -> bool:
        """Whether the next token of a text is to be read alone anyway."""
        return bool(self._until or self._doubted or any(self._settled.values()))

    def _hits(self, step: Step) -> list[int]:
        """Ids of the breakpoints that stop before it."""
        return [id for id in self._judge(step) if not (self._conditions[id].on_text and id in self._were)]

    def _forget_unknown(self) -> None:
        self._doubted, self._settled = {}, {}

    def written(self, step: Step) -> None:
        """This step is part of the text now."""
        self._were = set(self._judge(step))
        self._index = step.index + 1
        self._text = (self._text + step.text)[-TEXT_TAIL_CHARS - 1 :]
        if self._until:
            self._since = (self._since + step.text)[-NOTICED:]

    def _judge(self, step: Step) -> dict[int, None]:
        """Ids of the breakpoints that are true of it. One that takes too long is switched off."""
        if self._judged is not step:
            self._judged, self._true, self._unknown, text = step, {}, set(), self._text + step.text
            for one in self.breakpoints:
                try:
                    verdict = self._conditions[one.id].verdict(step, text, self.watches) if one.enabled else False
                    if verdict:
                        self._true[one.id] = None
                    elif verdict is None:
                        self._unknown.add(one.id)
                except TimeoutError:
                    self._switch_off(one, "switched off, as its pattern took too long to search")
        return self._true

    def _switch_off(self, wrong: Breakpoint, note: str) -> None:
        self._tell(replace(one, enabled=False, note=note) if one is wrong else one for one in self.breakpoints)

    def _there(self, ahead: str) -> bool:
        """Whether what was written since then ends a sentence or a line. ahead: what comes next."""
        if self._until == "line":
            return "\n" in self._since
        if FULL_STOP.search(self._since):
            return not BEGINS.match(ahead)
        if not SENTENCE.search(self._since) or LISTED.search(self._text[-NOTICED:]):
            return False
        return self._since[-1].isspace() or ahead[:1].isspace()

    def _tell(self, breakpoints: Iterable[Breakpoint]) -> None:
        wanted = tuple(breakpoints)
        if wanted != self.breakpoints:
            self.breakpoints = wanted
            self.emit(BreakpointsChanged(wanted))
