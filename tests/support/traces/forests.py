"""Sessions of many runs, as an engine tells of them: branches, twins, labels, going back and on again."""

from dataclasses import dataclass, field

from asking import fan_answer
from cards import CARD
from hypothesis import strategies as st
from msgspec.structs import replace
from recorded import on_device
from scripted import started

from tui_entropy.records.arrays import Grid
from tui_entropy.records.events import (
    BreakpointsChanged,
    Continued,
    Ended,
    Event,
    KnobsChanged,
    Labelled,
    Paused,
    Prefilled,
    PromptScores,
    Ready,
    ShadowChanged,
    Started,
    Switched,
    WatchesChanged,
)
from tui_entropy.records.probes.continuations import SampledContinuations
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Breakpoint, Lane, Watch
from tui_entropy.records.step import PromptToken, Step

WORDS = " a", " b", " c", " a"


def word(index: int, run: int, which: int) -> Step:
    """A step that writes one of WORDS, whose ids are 50, 51, ..."""
    made = on_device(index, run, WORDS[which])
    first, *rest = made.candidates
    return replace(made, token_id=50 + which, candidates=(replace(first, token_id=50 + which), *rest))


@dataclass
class Session:
    """Only says what an engine could say."""

    events: list[Event] = field(default_factory=lambda: [Ready(CARD, (), "/somewhere/a.tui")])
    lengths: dict[int, int] = field(default_factory=dict)
    begun: dict[int, Started] = field(default_factory=dict)
    now: int = 0
    twin: int = 0

    def begin(self, **how: object) -> None:
        run = len(self.lengths) + 1
        self.begun[run] = begun = replace(started(run), **how)
        self.lengths[run] = begun.shared
        self.events.append(begun)
        if begun.twin_of is None:
            self.now, self.twin = run, 0

    def write(self, prompt: int) -> None:
        """Begin with one of several prompts, edited or not."""
        prompt_tokens = (*started().prompt_tokens, PromptToken(prompt, b"!" * prompt, "!" * prompt))
        self.begin(prompt=f"prompt {prompt}", prompt_tokens=prompt_tokens, parent=self.now or None)
        self.events += [Prefilled(self.now, 4, 4, 0.5), PromptScores(self.now, 1, Grid.of([[prompt + 0.5] * 7] * 3))]

    def branch(self, at: int, twin: bool = False) -> None:
        parent = 1 + at % len(self.lengths)
        if twin:
            parent = self.now
        begun = self.begun[parent]
        origin = {"parent": parent, "shared": at % (self.lengths[parent] + 1), "how": "kept"}
        beside = {"twin_of": self.now, "shared": self.lengths[parent]} if twin else {}
        knobs = Knobs(temperature=0.5 + at / 10)
        self.begin(
            **{"prompt": begun.prompt, "prompt_tokens": begun.prompt_tokens, "knobs": knobs, **origin, **beside}
        )
        if twin:
            self.twin = len(self.lengths)

    def step(self, n: int) -> None:
        run = self.twin if n % 3 == 0 and self.twin else self.now
        index = self.lengths[run]
        self.events.append(word(index, run, n % len(WORDS)))
        self.lengths[run] += 1

    def say(self, what: str, n: int) -> None:
        run, index = self.now, self.lengths.get(self.now, 0)
        other = 1 + n % max(len(self.lengths), 1)
        match what:
            case "write":
                self.write(n)
            case _ if not run:
                self.events.append(BreakpointsChanged((Breakpoint(n, "rank > 1"),)))
            case "branch":
                self.branch(n)
            case "twin":
                self.branch(n, twin=True)
            case "step":
                self.step(n)
            case "label":
                self.events.append(Labelled(other, f"name {n}", n % 2 == 0, n % 3 == 0))
            case "switch":
                self.now, self.twin = other, 0
                self.events.append(Switched(other))
            case "pause":
                self.events += [Paused(run, "by you", n), Continued(run)][: 1 + n % 2]
            case "end":
                self.events.append(Ended(run, "token limit"))
            case "knobs":
                self.events.append(KnobsChanged(run, index, Knobs(temperature=1 + n / 10)))
            case "watch":
                self.events.append(WatchesChanged(run, index, (Watch(f" w{n}", n, b" w", 1),)))
            case "shadow":
                self.events.append(ShadowChanged(run, index, Lane(f"lane {n}") if n % 2 else None, "from the same"))
            case "fan":
                self.events.append(fan_answer(SampledContinuations((), 16, "exact", 0.5), run, index + 2))


SAID = "write", "branch", "twin", "step", "label", "switch", "pause", "end", "knobs", "watch", "shadow", "fan"


@st.composite
def sessions(draw: st.DrawFn) -> list[Event]:
    """Ready first, and steps often."""
    session = Session()
    words = st.sampled_from([*SAID, *["step"] * 8, *["branch"] * 2])
    for what, n in [("write", 0), *draw(st.lists(st.tuples(words, st.integers(0, 9)), max_size=40))]:
        session.say(what, n)
    return session.events
