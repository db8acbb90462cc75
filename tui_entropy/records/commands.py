"""Commands: what a screen may tell an engine."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from tui_entropy.records.bounds import (
    LONGEST_STAY,
    MOST_TOKENS,
    Ids,
    Number,
    Position,
    RelayedBytes,
    Text,
    Whole,
    Words,
)
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.probes.ask import AskProbe, CancelProbe
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import ON_LEAVE, RECORDED_ROWS, Breakpoints, Lane, Texts, Vector, Vectors


class Load(Struct, frozen=True, tag="load"):
    model: ModelSpec
    vectors: Vectors = ()
    """How vectors are set once the model is up; files of further ones are read then."""
    trace: Words | None = None
    """Where to record; a file that is there is left alone, and one with another number behind its name made. None for
    a record that goes with the engine."""
    keep: Annotated[float, Meta(ge=0, le=LONGEST_STAY)] = 0.0
    """Seconds to stay with nobody attached; 0 is to end with the last screen."""
    on_leave: Annotated[str, Meta(pattern=f"^({'|'.join(ON_LEAVE)})$")] = "write"
    """What becomes of the text when the last screen is gone: one of ON_LEAVE."""
    kept_cache: Whole = 1 << 30
    """Bytes that may be kept beside the run that is written: see Memory.kept."""
    record_attention: Annotated[str, Meta(pattern=f"^({'|'.join(RECORDED_ROWS)})$")] = "shown"
    """Which attention rows steps have with them: one of RECORDED_ROWS."""
    watches: Texts = ()
    breakpoints: Breakpoints = ()
    """Both are set once the model is up."""
    write: Write | None = None
    """What to begin with then, whether or not whoever asked for it is still there. A Write that was heard meanwhile
    takes its place."""
    reopen: Reopen | None = None
    """The recording that it goes on with, in place of `write`. The record of this engine begins as a copy of it."""
    endpoint: Words = ""
    """The base URL at which requests of applications are taken for it, as whoever looks is told. Empty for none."""


class Reopen(Struct, frozen=True, tag="reopen"):
    """Go on with a recorded session: with the runs, the settings and the text that it was left with."""

    path: Words
    run: Position | None = None
    """Which run is gone on with; None for the one that was looked at last."""
    max_tokens: Annotated[int, Meta(ge=1, le=MOST_TOKENS)] | None = None
    """Tokens that may be written there from now on; None for what is left of its own limit."""
    despite: bool = False
    """Whether it is gone on with where model, tokenizer or vectors are not those of the recording."""


class Message(Struct, frozen=True):
    """What somebody said in a conversation."""

    role: Words
    """'system', 'user', 'assistant', or another that a chat template knows."""
    content: Text


Messages = Annotated[tuple[Message, ...], Meta(max_length=2**16)]


class Write(Struct, frozen=True, tag="write"):
    """Stop what is being written and begin a new run."""

    prompt: Text
    system: Text | None
    chat: bool | None
    """Whether the chat template is used; None for wherever the model has one and there is something to say in it."""
    max_tokens: Annotated[int, Meta(ge=1, le=MOST_TOKENS)]
    knobs: Knobs
    score_prompt: bool = True
    """Whether the tokens of the prompt are scored as they are read."""
    parent: Position | None = None
    """The run whose prompt was edited."""
    read: bool = False
    """The prompt is a text that is there already: all of its tokens but the first are steps, and nobody draws them.
    What comes behind them is written when a person goes on."""
    messages: Messages = ()
    """Of a conversation in place of `prompt`, in the form of the model's chat template. Unless it is a text to be
    read, the template opens the answer behind it."""
    token_ids: Ids = ()
    """Exactly these are read in place of `prompt`, which is what they say: those of a run that is opened."""
    stop: Texts = ()
    """The text ends with the token that completes one of these in what is written."""
    request: Words = ""
    """By which an application that asked for it knows it. It waits then until no text of a person is going, and who
    sends it need not be in control."""


class SetKnobs(Struct, frozen=True, tag="set-knobs"):
    knobs: Knobs


class SetVector(Struct, frozen=True, tag="set-vector"):
    """Replace the setting of the vector of this name; read its file first if the name is new."""

    vector: Vector
    rebuild: bool = False
    """Read the whole text again under it; else keys and values that are there stay as they are."""


class Pause(Struct, frozen=True, tag="pause"):
    reason: Words = "by you"


class Continue(Struct, frozen=True, tag="continue"):
    pass


class Advance(Struct, frozen=True, tag="advance"):
    """Write this many tokens, then pause; or up to the end of what `until` names."""

    tokens: Annotated[int, Meta(ge=1, le=MOST_TOKENS)] = 1
    until: Words = ""
    """One of UNTIL."""


class Stop(Struct, frozen=True, tag="stop"):
    request: Words = ""
    """Only the text of this Write.request, or that request while it waits. Empty: whatever is written."""
    reason: Words = ""
    """Why it ends there; empty where a person wants it, who may go on with it."""


class Quit(Struct, frozen=True, tag="quit"):
    """End the engine."""


class Follow(Struct, frozen=True, tag="follow"):
    """Tell this screen everything that was recorded after an event, and then what happens."""

    after: Whole = 0
    """`seq` of the last event that it knows; 0 for none."""
    guest: bool = False
    """It does not count among the screens: it takes no control, and nothing changes when it leaves."""


class TakeControl(Struct, frozen=True, tag="take-control"):
    """From now on this screen commands, and the others watch."""


class SetBreakpoints(Struct, frozen=True, tag="set-breakpoints"):
    """All that there are to be; hits are counted by the engine, from those given here on."""

    breakpoints: Breakpoints


class SetWatches(Struct, frozen=True, tag="set-watches"):
    """All the strings that are to be followed."""

    texts: Texts


class Branch(Struct, frozen=True, tag="branch"):
    """Write on from before one step of a run: first these tokens, then this text, then what the model draws.

    At the step that comes next in the run that is written, it goes on in that run. Anywhere else a new run begins.
    """

    run: Position
    step: Position
    token_ids: Ids = ()
    text: Text = ""
    ban: Ids = ()
    """Tokens that this one step may not be."""
    pause: bool = False
    """Stop again once the tokens and the text are written (or at once, where there are none)."""


class Go(Struct, frozen=True, tag="go"):
    """To another run: it is looked at, and written on, from now on. What is being written pauses."""

    run: Position


class Label(Struct, frozen=True, tag="label"):
    """Name, star or hide a branch. None leaves it as it is."""

    run: Position
    name: Words | None = None
    starred: bool | None = None
    deleted: bool | None = None


class SelectHead(Struct, frozen=True, tag="select-head"):
    """A person looks at this head: its rows go into the record from the next step on."""

    layer: Number
    """The block, from 1 on."""
    head: Number | None
    """From 1 on; None for the mean of heads, which is recorded anyway."""


class SetShadow(Struct, frozen=True, tag="set-shadow"):
    """Run another lane on the same tokens, from the next step on; None for none."""

    lane: Lane | None


class Twin(Struct, frozen=True, tag="twin"):
    """From before one step of a run, write in two lanes at once, side by side and with the same luck: this run (or a
    branch of it), and a second run as the lane says."""

    run: Position
    step: Position
    lane: Lane


ANSWER_ENDED = "the answer ended"
"""Why no more of an answer comes where the server closed it in order."""


class Relayed(Struct, frozen=True, tag="relayed"):
    """A part of what passed between an application and its server, in its order. Who tells of it need not be in
    control."""

    request: Words
    """The name of the request that it belongs to."""
    route: Words = ""
    """With the first part alone, which is the request: where it went."""
    body: RelayedBytes = b""
    """With that: what was sent there."""
    status: Annotated[int, Meta(ge=0, le=999)] = 0
    """With the beginning of the answer, as the two below; else 0."""
    content_type: Words = ""
    encoding: Words = ""
    data: RelayedBytes = b""
    """Bytes of the answer."""
    at: Annotated[float, Meta(ge=0, le=2**53)] = 0.0
    """Seconds, by a clock that does not go back."""
    ended: Words = ""
    """With the last part: why no more comes."""
    broken: bool = False
    """With that: the server could not be reached, or broke off."""


Command = (
    Load
    | Write
    | SetKnobs
    | SetVector
    | Pause
    | Continue
    | Advance
    | Stop
    | AskProbe
    | CancelProbe
    | Quit
    | Follow
    | TakeControl
    | SetBreakpoints
    | SetWatches
    | Branch
    | Go
    | Label
    | SelectHead
    | SetShadow
    | Twin
    | Reopen
    | Relayed
)
