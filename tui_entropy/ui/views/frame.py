"""Frame: all that a repaint sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from tui_entropy.metrics.metric import Metric
from tui_entropy.metrics.registry import BY_NAME, METRICS
from tui_entropy.records.model import Trust
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Vector
from tui_entropy.records.step import Candidate, Step
from tui_entropy.state.session_view import SessionView
from tui_entropy.ui.drawing.paint import Paint

Record = TypeVar("Record")
"""A frozen dataclass, whose fields all have defaults, of what one page keeps."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The log, where the cursor is, and how the person wants to see it. Read-only for views."""

    log: SessionView
    paint: Paint
    cursor: int | None = None
    """The step that every pane shows; None before the first."""
    following: bool = True
    """The cursor stays on the newest step."""
    tint: Metric = METRICS[0]
    relative: bool = True
    """The tint shows where a value stands in this text, and not its size."""
    chart_series: tuple[Metric, ...] = (BY_NAME["entropy"], BY_NAME["varentropy"])
    """What the chart shows beside the tint."""
    token: int = 0
    """What is chosen at the step under the cursor: 0 is the written token, n the n-th candidate."""
    row: int = 0
    """Of the page that is open: its chosen row (the one after the last of a list adds to it), or of a diff how many
    lines below the parting is looked at."""
    what_if: Step | None = None
    """The step under the cursor as it would be with the knobs set now; None for as it was."""
    bits: bool = True
    layer: int = 1
    """1-based block of the attention view."""
    head: int | None = None
    """1-based; None for the mean of heads."""
    own_head: bool = False
    """A person chose layer and head on this screen. Else they are those that the log says."""
    attention_tint: bool = False
    """The text is tinted by what the token under the cursor looked at, in place of `tint`."""
    knobs: Knobs = field(default_factory=Knobs)
    """As asked for; `log.knobs` is what the engine has applied."""
    vectors: tuple[Vector, ...] = ()
    """As asked for; `log.vectors` is what the engine has applied."""
    knob: str = "temperature"
    """The knob that the arrow keys turn while the strip has the focus."""
    typed: str = ""
    """Digits typed for that knob and not yet taken."""
    box: frozenset[str] = frozenset()
    """What the box for text has beside its text: 'mode' (chat or raw), 'system' (a prompt), 'history'."""
    raw: bool = False
    """Show the prompt as the tokens that the model read, template and all."""
    notice: str = ""
    """One line for a person, shown in place of the key hints; empty for none."""
    focus: str = ""
    """The pane that has the focus, by its name in the stylesheet."""
    pane: str = ""
    """Of 'heads' and 'attention' the one that was asked for, on a small screen in place of others."""
    demo: bool = False
    """Fewer and larger panes, without file names and gauges, and a caption in place of the key hints."""
    caption: str = ""
    """For those who look on: in a demo what was done last, and over the key hints what a tour tells."""
    rebuild: bool = False
    """The next change of a vector has the text before it read again."""
    second: bool = False
    """Of two lanes the one beside is looked at."""
    place: str = ""
    """Which pane or page with keys of its own has the focus: 'knobs', 'prompt', 'ask', one of keymap.PAGES, '' for
    none (or 'replay' where a recording is shown)."""
    lacking: frozenset[str] = frozenset()
    """Actions of the key table that do nothing on this screen: a recording cannot be written on, nor what another
    screen is in control of."""
    link: str = ""
    """Who else watches the engine, empty for nobody."""
    keymap: Mapping[str, str] = field(default_factory=dict)
    """A person's own keys, by the id of what they do."""
    terminal: str = ""
    """How the link to the terminal does, empty where it is not known."""
    played: str = ""
    """Of a recording: how far it is shown, how fast, which file. Empty where an engine writes."""

    pages: Mapping[type, Any] = field(default_factory=dict)
    """What each page keeps of its own: the class of its record -> the record, as `of` and `put` have it."""

    def of(self, record: type[Record]) -> Record:
        """The state of a page, in the record that is defined beside it; with its defaults at first."""
        kept = self.pages.get(record)
        return kept if isinstance(kept, record) else record()

    def put(self, record: type[Record], **values: Any) -> dict[str, Any]:
        """The changes of a frame that set values of a page's state."""
        before = self.of(record)
        after = replace(before, **values)  # type: ignore[type-var]
        return {"pages": self.pages if after == before else {**self.pages, record: after}}

    @property
    def fitted(self) -> Frame:
        """The frame on its log as it is now, with the cursor on a step: a log grows, and begins another text, after a
        frame was made."""
        last = self.last
        if self.cursor is None or self.cursor <= last:
            return self
        return replace(self, cursor=last if last >= 0 else None, token=0, what_if=None)

    @property
    def with_head(self) -> Frame:
        """The frame at the head that the log says, unless a person chose one."""
        head, card = self.log.head, self.log.card
        if self.own_head or head is None or card is None or (head.layer, head.head) == (self.layer, self.head):
            return self
        there = 1 <= head.layer <= card.n_layers and 1 <= (head.head or 1) <= card.n_heads
        return replace(self, layer=head.layer, head=head.head) if there else self

    @property
    def step(self) -> Step | None:
        """The step under the cursor, where that is beyond the text the one that is held up."""
        if self.cursor is None or not 0 <= self.cursor <= len(self.log.steps):
            return None
        at, steps = self.cursor, self.log.steps
        return self.log.proposed if at == len(steps) else self.log.visited(steps[at])

    @property
    def seen(self) -> Step | None:
        """The step at the cursor, as it would be with other knobs where that is asked."""
        return self.what_if or self.step

    @property
    def held_up(self) -> bool:
        """Nothing of the step under the cursor is written yet: it comes next, if nothing is changed."""
        return self.log.proposed is not None and self.cursor == len(self.log.steps)

    @property
    def last(self) -> int:
        """The last step that the cursor can stand on, -1 for none."""
        return len(self.log.steps) - (self.log.proposed is None)

    @property
    def candidate(self) -> Candidate | None:
        """The one that is chosen, None for the written token."""
        step = self.seen
        return step.candidates[self.token - 1] if step and 0 < self.token <= len(step.candidates) else None

    def selecting(self, by: int) -> dict[str, Any]:
        """The changes of a frame that choose another candidate. The cursor stays: nobody chooses from a
        list that runs."""
        if (step := self.seen) is None:
            return {}
        rests = self.log.state not in ("reading", "writing")
        return {"token": min(max(self.token + by, 0), len(step.candidates)), "following": self.following and rests}

    @property
    def where(self) -> list[str]:
        """The step under the cursor, for a title."""
        if self.cursor is None:
            return []
        step = f"step {self.cursor + 1}"
        return [step, "next", "not written yet"] if self.held_up else [step]

    @property
    def where_of_all(self) -> list[str]:
        """The place of the cursor, for a heading, and the number of steps that are written."""
        return [f"{name} of {len(self.log.steps)}" for name in self.where] if len(self.where) == 1 else self.where

    @property
    def beside(self) -> Frame:
        """The frame of the lane that is written beside; this frame where there is none."""
        twin = self.log.twin
        if twin is None:
            return self
        there = replace(self, log=replace(self.log, run=twin, twin=self.log.run), what_if=None)
        cursor = None if self.cursor is None or there.last < 0 else min(self.cursor, there.last)
        return replace(there, cursor=cursor)

    @property
    def looked_at(self) -> Frame:
        """The frame of the lane that a person looks at."""
        return self.beside if self.second else self

    @property
    def unit(self) -> str:
        return "bits" if self.bits else "nats"

    @property
    def untold_panes(self) -> tuple[str, ...]:
        """The panes that would have nothing to show, whatever is written: a server tells nothing of heads unless its
        model's inside is measured, no attention rows, and one entropy only with the whole distribution."""
        card = self.log.card
        if card is None or card.server is None:
            return ()
        tells_all = card.server.n_logprobs == card.vocab > 0
        told = {"heads": any(card.attention), "attention": False, "quadrants": tells_all}
        return tuple(name for name, is_told in told.items() if not is_told)

    def trust(self, group: str) -> Trust | None:
        """The trust in a group of numbers (TRUSTED); None where nobody says."""
        return self.log.card.trust.get(group) if self.log.card else None

    def trust_of(self, metric: Metric) -> Trust | None:
        """The reliability of one metric, where something else is known of it than of its group."""
        return self.trust(f"series {metric.name}") or self.trust(GROUPS.get(metric.distribution, ""))


GROUPS = {"model": "logits", "final": "sampling", "attention": "heads", "residual": "residual"}
"""Distribution of a series -> its group in TRUSTED."""
SUPPOSED = "as it would be with the knobs set now"
"""Of Frame.what_if, for titles."""
