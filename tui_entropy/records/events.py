"""The shared words: what the engine tells, what it is asked, and the values both are made of.

Every information quantity is in nats. Layers are numbered once: 0 is the embedding, k the output of block k;
a per-block tuple or grid has n_layers entries, the first for block 1. "model" is the distribution after steering
and before any sampling stage, "final" the one that is drawn from. Unknown is None (NaN inside a Grid), never 0.
"""

from __future__ import annotations

import math

from msgspec import Struct, field

from tui_entropy.records.arrays import Grid
from tui_entropy.records.model import ModelCard, ModelSpec
from tui_entropy.records.probes.ask import ProbeAnswer, ProbeInfo, ProbeProgress
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Breakpoint, Lane, Vector, Watch
from tui_entropy.records.source import Capabilities
from tui_entropy.records.step import NAMED, PromptToken, Step

# --- What happens: events ------------------------------------------------------------------------------------


class Progress(Struct, frozen=True, tag="progress"):
    """On the way to a model that can write."""

    stage: str
    """A short phrase: 'importing torch', 'downloading SmolLM2-135M-Instruct'."""
    done: float | None = None
    total: float | None = None
    unit: str = ""


class Ready(Struct, frozen=True, tag="ready"):
    card: ModelCard
    vectors: tuple[Vector, ...] = ()
    trace: str | None = None
    """The file that everything is recorded in; None for none."""
    rewinds: str = ""
    """How this model goes back in a text, such as 'cropping its cache, exact'; empty while nobody said."""
    probes: tuple[ProbeInfo, ...] = ()
    """Which questions this engine can answer."""
    capabilities: Capabilities = Capabilities()
    recording: str = ""
    """The file of the recording whose session goes on here, all of which happened before; empty for a new session."""
    endpoint: str = ""
    """As in Load."""


class Differences(Struct, frozen=True, tag="differences"):
    """To one screen: why a recording is not gone on with unless a person says so. No part of what happened, and not
    recorded."""

    recording: str
    found: tuple[str, ...]
    """Half a sentence each: what was recorded, and what is there."""


TEXT_READ = "the text is read"
"""Why writing rests where a text that was there ends: the reason of a Paused."""


class Started(Struct, frozen=True, tag="started"):
    """A run begins: the prompt is encoded, nothing is read yet. With a parent it is a branch, and its next step is
    the one at `shared`: those before it are the parent's."""

    run: int
    prompt: str
    system: str | None
    chat: bool
    prompt_tokens: tuple[PromptToken, ...] = field(name="pieces")
    knobs: Knobs
    vectors: tuple[Vector, ...]
    max_tokens: int
    parent: int | None = None
    """The run that it branches off; with an edited prompt, the one with the other prompt, and nothing is shared."""
    shared: int = 0
    """How many steps it has in common with its parent, from the first on."""
    how: str = ""
    """How the keys and values of what is shared came back: 'kept', or what had to be read again."""
    twin_of: int | None = None
    """The run that it is written beside, token by token, with the same luck."""
    n_given: int = 0
    """The steps, from the first on, of a text that was there already: nobody drew their tokens."""
    stop: tuple[str, ...] = ()
    """It ends with the token that completes one of these."""
    request: str = ""
    """By which the application that asked for it knows it; empty for a person's."""
    end_ids: tuple[int, ...] = ()
    """Tokens that end it when they are drawn, and are no part of an answer."""
    given_knobs: tuple[str, ...] | None = None
    """Of a request that passes through a proxy, the fields of Knobs that it says something of: the others are as its
    server has them. None for all."""


class NextTokens(Struct, frozen=True, tag="next-tokens"):
    """The tokens that come next in a run whatever the model says, and those that the next one may not be, as a person
    had it. They take the place of those that were told before."""

    run: int
    index: int
    """The step that comes next."""
    given: tuple[int, ...] = ()
    """Ids of a text that was there already; nobody draws them."""
    forced: tuple[int, ...] = ()
    banned: tuple[int, ...] = ()


class Prefilled(Struct, frozen=True, tag="prefilled"):
    """A part of the prompt has been read: how much of it by now."""

    run: int
    done: int
    total: int
    seconds: float


class PromptScores(Struct, frozen=True, tag="prompt-scores"):
    """The scores of a stretch of the prompt, taken as it was read. The first token of all has none: nothing came
    before it."""

    run: int
    first: int
    """Context position of the first token scored."""
    scores: Grid
    """(n, len(names)) for the tokens at first, first + 1, ..."""
    names: tuple[str, ...] = NAMED
    """Of the metrics; named and meant as those of steps."""


class Proposed(Struct, frozen=True, tag="proposed"):
    """At a stop: the step that comes next if nothing is changed. Nothing of it is written yet, and each change of
    the knobs brings another one."""

    step: Step

    @property
    def run(self) -> int:
        return self.step.run


class BreakpointsChanged(Struct, frozen=True, tag="breakpoints"):
    """All that there are, also after a hit was counted."""

    breakpoints: tuple[Breakpoint, ...]


class WatchesChanged(Struct, frozen=True, tag="watches"):
    """Acts from the next step on."""

    run: int
    index: int
    watches: tuple[Watch, ...]


class HeadSelected(Struct, frozen=True, tag="head-selected"):
    """Whose attention rows the steps from here on have with them, beside the means of heads."""

    layer: int
    """1-based block."""
    head: int | None
    """1-based; None for no head."""
    by_score: bool = False
    """Nobody chose it: its rows differ most from one token to the next, of those over far keys."""


class Switched(Struct, frozen=True, tag="switched"):
    """This run is the one that is looked at and gone on with from now on."""

    run: int


class Labelled(Struct, frozen=True, tag="labelled"):
    """A branch has the name and the marks that a person gave it. It need not be the run on screen."""

    branch: int
    """Its run."""
    name: str
    starred: bool
    deleted: bool = False
    """It is no longer shown, and nothing is kept for it but the record."""


class ShadowChanged(Struct, frozen=True, tag="shadow"):
    run: int
    index: int
    """The first step that it is told of."""
    lane: Lane | None
    """None: there is none from here on."""
    how: str = ""
    """'in the same forward pass', 'in a second forward pass', 'from the same logits'."""
    seconds: float = 0.0
    """What reading the text once more for it took."""


class KnobsChanged(Struct, frozen=True, tag="knobs"):
    run: int
    index: int
    """The first step they act on."""
    knobs: Knobs


class VectorsChanged(Struct, frozen=True, tag="vectors"):
    run: int
    index: int
    """The first step they act on."""
    vectors: tuple[Vector, ...]
    rebuilt: bool = False
    """The whole text before was read again under them; otherwise its keys and values are as they were."""
    seconds: float = 0.0
    """What that took."""


class SettingsPending(Struct, frozen=True, tag="pending"):
    """Settings have changed. They act from the next step of the run on, which is told then; where none comes nothing
    else tells of them."""

    run: int
    knobs: Knobs
    vectors: tuple[Vector, ...]


class Paused(Struct, frozen=True, tag="paused"):
    run: int
    reason: str
    breakpoint: int | None = None
    """The id of the one that stopped it."""


class Continued(Struct, frozen=True, tag="continued"):
    run: int


STOP_STRING = "stop string"
"""The reason of an end where one of Started.stop was written."""
STOPPED = "stopped"
"""The reason of an end that a person asked for: such a run can be gone on with."""


class Ended(Struct, frozen=True, tag="ended"):
    run: int
    reason: str
    """'end of text', STOP_STRING, 'token limit', 'context full', 'stopped', 'stopped at' what without a screen, or
    what was wrong with the logits."""
    failed: bool = False
    """It had to: its logits were no numbers, or the server of an application refused or broke off."""


class Failed(Struct, frozen=True, tag="failed"):
    """The engine could not go on. It still listens unless the process is gone."""

    sentence: str
    detail: str = ""
    fatal: bool = False
    """No model is up: only a restart helps."""


class Refused(Struct, frozen=True, tag="refused"):
    """One command could not be obeyed; everything else goes on."""

    sentence: str
    notice: bool = False
    """It was obeyed, and a person must know this of how."""


class Memory(Struct, frozen=True, tag="memory"):
    resident: int
    """Bytes of the engine process."""
    device: int | None
    """Bytes allocated on the accelerator, None on a CPU."""
    cache: int
    """Bytes of keys, values and kept queries of the run that is written."""
    kept: int = 0
    """Bytes kept beside it so that going back and other branches need not be read again."""
    bound: int = 0
    """What those may come to; what goes beyond is dropped and read again on demand."""
    step: str = ""
    """How decode steps run: 'graph' or 'plain'; empty where there is only one way."""


class Standing(Struct, frozen=True, tag="standing"):
    """To one screen: which engine this is, and how the two stand. The first thing that it hears, and again when
    screens come, go or take control. No part of what happened, and not recorded."""

    engine: str
    """By which `attach` and `stop` name it."""
    pid: int
    began: float
    """Wall clock, seconds since 1970."""
    model: ModelSpec | None
    state: str
    """One of log.State."""
    tokens: int
    """Written in the run that it is at."""
    trace: str
    """The file that it records into; empty before it was told to load."""
    keep: float
    """Seconds that it stays with nobody attached."""
    screens: int = 0
    in_control: bool = False
    """Whether the screen that is told this may command."""


class Dismissed(Struct, frozen=True, tag="dismissed"):
    """To one screen: the engine hangs up on it."""

    sentence: str


Event = (
    Progress | Ready | Started | Prefilled | PromptScores | Step | KnobsChanged | VectorsChanged | Paused | Continued
    | Ended | Failed | Refused | Memory | ProbeAnswer | ProbeProgress | Standing | Dismissed | Proposed
    | SettingsPending | HeadSelected | BreakpointsChanged | WatchesChanged | Switched | Labelled | ShadowChanged
    | NextTokens | Differences
)  # fmt: skip


def probability_of(nats: float) -> float:
    """The probability of a log-probability, which may come from anywhere: above 0 there are none."""
    return math.exp(min(nats, 0.0))
