"""Every key of the program, in one table. Bindings, footer, help panel and command palette are made from it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from textual.binding import Binding, BindingType

from tui_entropy.config.settings import KEYS as KEYS_TABLE
from tui_entropy.config.settings import Config
from tui_entropy.core.errors import UserError
from tui_entropy.core.files import text_of


@dataclass(frozen=True, slots=True)
class Key:
    id: str
    """By which a keymap names it."""
    keys: str
    """As Textual names them, separated by commas."""
    action: str
    """A method of the app, without 'action_', and its arguments."""
    label: str
    group: str
    hint: str = ""
    """A word for the footer; empty where the footer leaves it out."""
    where: str = ""
    """The pane that must have the focus ('knobs', 'prompt', 'ask'), the page that must be open, 'page' for any of
    them, 'rows' for those that have rows to choose, 'lists' for those of LISTED, 'replay' for the usual screen of a
    recording, 'usual' for wherever no page is open, 'token' for that and the page of one token's way; empty for
    everywhere."""
    shown: bool = True
    """False for one of a row of alike keys whose first is listed for all."""
    tells: str = ""
    """What it tells the source of the text, of records/source.py ABILITIES, with spaces between. A source that can be
    told none of it has not got the key."""
    needs: str = ""
    """Conditions of ui/keys/needs.py, with spaces between, without which the footer does not offer it."""

    @property
    def name(self) -> str:
        """The name of its action."""
        return self.action.partition("(")[0]


LANES = "Other lanes"
WRITING, LOOKING, KNOBS, VECTORS, PANES, FULL, PAGE, NUMBERS, CHAIN, STRIP, PROMPT, REPLAY = (
    "Writing", "Looking", "Knobs", "Control vectors", "Panes", "Pages: a view on the whole screen", "On a page",
    "On the numbers page", "On the waterfall", "In the knob strip", "In the prompt box", "In a replay",
)  # fmt: skip
TRYING, LISTS, ASKED = "Another token", "On the pages of breakpoints and watches", "When something is asked"

BRANCHED, DIFFED, LANED, FANNED = "On the page of branches", "On a diff", "On the page of lanes", "On a fan"
PROBED, SESSIONS, LAYERED = "On the page of probes", "On the page of sessions", "On the page of layers"

LISTED = ("breakpoints", "watches")
"""Pages with a list that can be changed."""
WITH_ROWS = ("numbers", "layers", "waterfall", "branches", "diff", "lanes", "fan", "probes", "sessions", *LISTED)
PAGES = (*WITH_ROWS, "quadrants", "chart", "server")
USUAL = ("", "knobs", "replay")
"""The screen without a page."""

KEYS = (
    # Those of one pane come first: where it has the focus, they go before the others.
    Key("prompt.send", "enter", "send", "send the prompt", PROMPT, "send", "prompt", tells="write"),
    Key("prompt.newline", "ctrl+j,alt+enter,shift+enter", "newline", "new line", PROMPT, "new line", "prompt"),
    Key("prompt.older", "up", "recall(1)", "an older prompt, from the first line", PROMPT, "older", "prompt",
        needs="history"),
    Key("prompt.newer", "down", "recall(-1)", "a newer prompt, from the last line", PROMPT, "", "prompt",
        needs="history"),
    Key("prompt.mode", "ctrl+t", "chat_or_raw", "chat template, raw completion, or a text to be read", PROMPT,
        "chat/raw/read", "prompt", needs="mode"),
    Key("prompt.system", "tab,shift+tab", "system", "to the system prompt and back", PROMPT, "system", "prompt",
        needs="system"),
    Key("prompt.close", "escape", "close_prompt", "close, and keep what is typed", PROMPT, "close", "prompt"),
    Key("ask.take", "enter", "answer", "take the answer", ASKED, "take", "ask"),
    Key("ask.older", "up", "earlier_answer(1)", "an earlier answer", ASKED, "older", "ask"),
    Key("ask.newer", "down", "earlier_answer(-1)", "a later answer", ASKED, "", "ask"),
    Key("ask.close", "escape", "no_answer", "close, and change nothing", ASKED, "close", "ask"),
    Key("strip.left", "left", "choose(-1)", "the knob before", STRIP, "choose", "knobs"),
    Key("strip.right", "right", "choose(1)", "the knob after", STRIP, "", "knobs"),
    Key("strip.up", "up", "turn_chosen(1)", "turn it up", STRIP, "turn", "knobs", tells="set-knobs"),
    Key("strip.down", "down", "turn_chosen(-1)", "turn it down", STRIP, "", "knobs", tells="set-knobs"),
    Key("strip.0", "0", "type('0')", "type a value: digits, point, minus", STRIP, "", "knobs", tells="set-knobs"),
    *(Key(f"strip.{d}", d, f"type('{d}')", f"type {d}", STRIP, "", "knobs", False,
          tells="set-knobs") for d in "123456789"),
    Key("strip.point", "full_stop", "type('.')", "type a point", STRIP, "", "knobs", False, tells="set-knobs"),
    Key("strip.minus", "minus", "type('-')", "type a minus", STRIP, "", "knobs", False, tells="set-knobs"),
    Key("strip.take", "enter", "take_typed", "take the value typed", STRIP, "take", "knobs", tells="set-knobs"),
    Key("strip.reset", "backspace,delete", "reset_knob", "a digit back, or switch it off", STRIP, "off", "knobs",
        tells="set-knobs"),
    Key("strip.leave", "escape", "leave_knobs", "back to the text", STRIP, "back", "knobs"),
    Key("numbers.tint", "enter", "tint_chosen", "tint the text by it", NUMBERS, "tint", "numbers"),
    Key("numbers.chart", "space", "chart_chosen", "into the chart, or out of it", NUMBERS, "chart", "numbers"),
    Key("layers.lens", "l", "lens_view", "what each layer would have said, or its numbers", LAYERED, "lens",
        "layers"),
    Key("layers.on", "enter", "lens", "the lens on while it writes: every layer, every fourth, off", LAYERED,
        "lens on", "layers", needs="engine", tells="set-knobs"),
    Key("stage.before", "comma", "stage(-1)", "the stage before", CHAIN, "stage", "waterfall"),
    Key("stage.after", "full_stop", "stage(1)", "the stage after", CHAIN, "", "waterfall"),
    Key("stage.earlier", "less_than_sign", "move_stage(-1)", "move it earlier", CHAIN, "move", "waterfall",
        tells="set-knobs"),
    Key("stage.later", "greater_than_sign", "move_stage(1)", "move it later", CHAIN, "", "waterfall",
        tells="set-knobs"),
    Key("branches.go", "enter", "go", "go to it: look at it, and write on there", BRANCHED, "go", "branches",
        needs="branch other", tells="go"),
    Key("branches.diff", "d", "diff", "what tells it from the run on screen", BRANCHED, "diff", "branches",
        needs="branch other"),
    Key("branches.name", "r", "name", "name it", BRANCHED, "name", "branches", needs="branch", tells="label"),
    Key("branches.star", "asterisk,s", "star", "star it, or not", BRANCHED, "star", "branches", needs="branch",
        tells="label"),
    Key("branches.delete", "delete,backspace", "delete", "hide it, or show it again", BRANCHED, "hide", "branches",
        needs="branch", tells="label"),
    Key("branches.hidden", "h", "hidden", "list what is hidden, or not", BRANCHED, "hidden", "branches"),
    Key("diff.back", "d,enter", "to_branches", "back to the branches", DIFFED, "branches", "diff"),
    Key("lanes.run", "enter", "lane", "run it as the shadow, or not", LANED, "run", "lanes", needs="begun lane",
        tells="set-shadow"),
    Key("lanes.hotter", "plus,equals_sign", "lane_temperature(1)", "the temperature of a lane up", LANED, "heat",
        "lanes", needs="lanes"),
    Key("lanes.cooler", "minus", "lane_temperature(-1)", "the temperature of a lane down", LANED, "", "lanes",
        needs="lanes"),
    Key("lanes.type", "e", "type_lane", "edit the prompt of a lane", LANED, "edit", "lanes", needs="prompt",
        tells="set-shadow"),
    Key("fan.take", "enter", "take_fan", "write on with it: a branch", FANNED, "take", "fan", needs="fan",
        tells="branch"),
    Key("fan.same", "e", "same_text", "groups of exact or of normalised text", FANNED, "exact", "fan", needs="begun",
        tells="ask-probe"),
    Key("fan.more", "plus,equals_sign", "draws(1)", "more draws", FANNED, "draws", "fan"),
    Key("fan.fewer", "minus", "draws(-1)", "fewer draws", FANNED, "", "fan"),
    Key("fan.longer", "greater_than_sign", "lengths(1)", "longer ones", FANNED, "longer", "fan"),
    Key("fan.shorter", "less_than_sign", "lengths(-1)", "shorter ones", FANNED, "", "fan"),
    Key("fan.ask", "g", "ask_fan", "ask for so many", FANNED, "ask", "fan", needs="begun", tells="ask-probe"),
    Key("probes.ask", "enter,g", "ask_probe", "ask it of the token under the cursor", PROBED, "ask", "probes",
        needs="begun engine probes", tells="ask-probe"),
    Key("probes.edit", "e", "edit_probe", "change its options", PROBED, "options", "probes", needs="options",
        tells="ask-probe"),
    Key("probes.cancel", "x,delete,backspace", "cancel_probe", "do not wait for it", PROBED, "give up", "probes",
        needs="awaited", tells="cancel-probe"),
    Key("sessions.go", "enter", "go_to_session", "go to it: leave this one as D does", SESSIONS, "go", "sessions",
        needs="session"),
    Key("list.add", "a", "add_row", "add one", LISTS, "add", "lists", tells="set-breakpoints set-watches"),
    Key("list.edit", "enter,e", "edit_row", "change it; on the last row, add one", LISTS, "edit", "lists",
        tells="set-breakpoints set-watches"),
    Key("list.delete", "d,delete,backspace", "delete_row", "delete it", LISTS, "delete", "lists",
        tells="set-breakpoints set-watches"),
    Key("list.switch", "space", "switch_row", "switch a breakpoint on or off", LISTS, "on/off", "breakpoints",
        tells="set-breakpoints"),
    Key("page.row.up", "up", "row(-1)", "the row above: a number, a layer, a candidate", PAGE, "row", "rows"),
    Key("page.row.down", "down", "row(1)", "the row below", PAGE, "", "rows"),
    Key("page.rows.up", "pageup", "row(-10)", "ten rows up", PAGE, "", "rows"),
    Key("page.rows.down", "pagedown", "row(10)", "ten rows down", PAGE, "", "rows"),
    Key("page.close", "escape,q", "close_page", "close it", PAGE, "close", "page"),
    Key("replay.slower", "less_than_sign", "faster(-1)", "slower", REPLAY, "speed", "replay"),
    Key("replay.faster", "greater_than_sign", "faster(1)", "faster", REPLAY, "", "replay"),
    Key("replay.before", "left_parenthesis", "run(-1)", "the run before", REPLAY, "run", "replay",
        needs="run.before"),
    Key("replay.after", "right_parenthesis", "run(1)", "the run after", REPLAY, "", "replay", needs="run.after"),
    # Everywhere else.
    Key("pause", "space", "pause", "pause or go on", WRITING, "pause", needs="going", tells="pause"),
    Key("step", "n", "advance", "write one token, then pause", WRITING, "step", needs="going", tells="advance"),
    Key("sentence", "full_stop", "until('sentence')", "write to the end of the sentence, then pause", WRITING,
        "sentence", needs="going", tells="advance-on"),
    Key("line", "dollar_sign", "until('line')", "write to the end of the line, then pause", WRITING, "line",
        needs="going",
        tells="advance-on"),
    Key("some", "J", "write_some", "write so many tokens, then pause", WRITING, needs="going", tells="advance-on"),
    Key("candidate.up", "up", "select(-1)", "the candidate above", TRYING, "choose", needs="steps"),
    Key("candidate.down", "down", "select(1)", "the candidate below", TRYING, needs="steps"),
    Key("take", "enter", "take", "write on from the cursor, with the chosen candidate", TRYING, "take",
        needs="another choice", tells="branch"),
    Key("ban", "d", "ban", "write on from there, without the chosen candidate", TRYING, "ban", "token",
        needs="another", tells="branch"),
    Key("ban.on", "D", "ban_on", "ban it from there on, or allow it again", TRYING, "", "token", needs="another",
        tells="set-knobs"),
    Key("force", "quotation_mark", "force", "write on from there, with typed text", TRYING, "force", needs="another",
        tells="branch"),
    Key("back", "left", "move(-1)", "one token back", LOOKING, "look", needs="steps"),
    Key("on", "right", "move(1)", "one token on", LOOKING, needs="steps"),
    Key("back10", "shift+left,ctrl+left", "move(-10)", "ten tokens back", LOOKING, needs="steps"),
    Key("on10", "shift+right,ctrl+right", "move(10)", "ten tokens on", LOOKING, needs="steps"),
    Key("first", "home", "first", "the first token", LOOKING, needs="steps"),
    Key("follow", "end", "follow", "the newest token, and follow it", LOOKING, "newest"),
    Key("prompt", "i", "prompt", "write from a new prompt", WRITING, "prompt", tells="write"),
    Key("again", "g", "again(1)", "write it again with the next seed", WRITING, "again", needs="begun engine",
        tells="write"),
    Key("same", "G", "again(0)", "write it again with the same seed", WRITING, needs="begun engine", tells="write"),
    Key("edit", "e", "edit", "edit the written text, and write on from there", WRITING, "edit", needs="text engine",
        tells="branch"),
    Key("edit.prompt", "I", "edit_prompt", "edit the prompt, and write anew", WRITING, needs="begun", tells="write"),
    Key("stop", "s", "stop", "end this text here; space goes on with it", WRITING, "stop", "usual",
        needs="active", tells="stop"),
    Key("undo", "ctrl+u", "undo", "undo the last change of a knob, a vector, a ban or a stop", WRITING,
        tells="set-knobs set-vector branch stop"),
    Key("copy", "y", "copy", "copy the text, this token's row, the candidates or the command of this run", WRITING,
        needs="text"),
    Key("reopen", "ctrl+e", "reopen", "go on with this recording: its model is loaded, its text read once", WRITING,
        "go on with it", needs="recorded"),
    Key("restart", "ctrl+r", "restart", "start the engine again when it is gone", WRITING, "restart the engine",
        needs="gone"),
    Key("temperature.down", "t", "turn('temperature', -1)", "temperature down", KNOBS, "heat", tells="set-knobs"),
    Key("temperature.up", "T", "turn('temperature', 1)", "temperature up", KNOBS, tells="set-knobs"),
    Key("top_k.down", "k", "turn('top_k', -1)", "top-k down", KNOBS, tells="set-knobs"),
    Key("top_k.up", "K", "turn('top_k', 1)", "top-k up", KNOBS, tells="set-knobs"),
    Key("top_p.down", "p", "turn('top_p', -1)", "top-p down", KNOBS, tells="set-knobs"),
    Key("top_p.up", "P", "turn('top_p', 1)", "top-p up", KNOBS, tells="set-knobs"),
    Key("min_p.down", "m", "turn('min_p', -1)", "min-p down", KNOBS, tells="set-knobs"),
    Key("min_p.up", "M", "turn('min_p', 1)", "min-p up", KNOBS, tells="set-knobs"),
    Key("repeat.down", "r", "turn('repetition_penalty', -1)", "repetition penalty down", KNOBS, tells="set-knobs"),
    Key("repeat.up", "R", "turn('repetition_penalty', 1)", "repetition penalty up", KNOBS, tells="set-knobs"),
    Key("adaptive", "A", "adaptive", "adaptive sampling: off, S1, S3, own thresholds", KNOBS, "adaptive",
        tells="set-knobs"),
    Key("order", "o", "turn('order', 1)", "order of the stages: hf, llama.cpp, vllm", KNOBS, tells="set-knobs"),
    Key("strip", "f", "strip", "any knob: to the knob strip and back", KNOBS, "knobs"),
    Key("vector.1", "1", "vector(1)", "vector 1 to 9 on or off", VECTORS, "vectors", needs="vectors",
        tells="set-vector"),
    *(Key(f"vector.{n}", str(n), f"vector({n})", f"vector {n}", VECTORS, shown=False,
          tells="set-vector") for n in range(2, 10)),
    Key("stronger", "plus,equals_sign", "strength(1)", "the last vector stronger", VECTORS, needs="vectors",
        tells="set-vector"),
    Key("weaker", "minus", "strength(-1)", "the last vector weaker, below 0 against it", VECTORS, needs="vectors",
        tells="set-vector"),
    Key("vectors.off", "x", "no_vectors", "all vectors off", VECTORS, needs="vectors", tells="set-vector"),
    Key("scale", "X", "scale", "scale or ablate a head, attention or feed-forward: a vector like others", VECTORS,
        tells="set-vector"),
    Key("policy", "O", "policy", "changes of a vector act from here on, or read the text again", VECTORS,
        tells="set-vector"),
    Key("shadow", "S", "shadow", "a shadow on the same tokens, or none", LANES, "shadow", needs="begun",
        tells="set-shadow"),
    Key("twin", "Y", "twin", "a twin beside, from the step under the cursor", LANES, "twin", needs="begun",
        tells="twin"),
    Key("fan", "H", "fan", "short continuations from the step under the cursor, grouped", LANES, "fan",
        needs="begun", tells="ask-probe"),
    Key("target.next", "semicolon", "target(1)", "the next hot token, or what else was chosen to jump to", LOOKING,
        "next hot", needs="targets"),
    Key("target.before", "colon", "target(-1)", "the one before", LOOKING, needs="targets"),
    Key("target.kind", "apostrophe", "target_kind", "what to jump to: hot tokens, flips, breakpoint hits, changes, "
        "matches", LOOKING, needs="steps"),
    Key("search", "slash", "search", "search the text; then ; and : go through the matches", LOOKING, "search",
        needs="text"),
    Key("jump", "j", "jump", "to a step by its number", LOOKING, needs="steps"),
    Key("page.up", "pageup", "page(-1)", "a page of text up", LOOKING),
    Key("page.down", "pagedown", "page(1)", "a page of text down; at the end, follow it", LOOKING),
    Key("raw", "v", "raw", "the prompt as the model read it, template and all", LOOKING),
    Key("open.prompt", "V", "open_prompt", "open the prompt: each of its tokens is a step, in a run of its own",
        LOOKING, needs="closed engine", tells="write"),
    Key("tint", "c", "tint", "tint the text by the next of the usual series, or by attention", LOOKING, "tint"),
    Key("tint.scale", "percent_sign", "tint_scale", "tint by the place in this text, or by the value", LOOKING),
    Key("unit", "u", "unit", "bits or nats", LOOKING, "bits/nats"),
    Key("layer.down", "left_square_bracket", "layer(-1)", "layer below", LOOKING, "layer"),
    Key("layer.up", "right_square_bracket", "layer(1)", "layer above", LOOKING),
    Key("head.down", "left_curly_bracket", "head(-1)", "head before; before the first, the mean of heads", LOOKING,
        "head"),
    Key("head.up", "right_curly_bracket", "head(1)", "head after", LOOKING),
    Key("head.kind", "backslash", "head_of_a_kind", "the next head of a kind, such as previous token", LOOKING,
        "head of a kind", needs="kinds"),
    Key("head.changes", "circumflex_accent", "head_changes", "in the heads: changes of each step, or kinds", LOOKING,
        "changes"),
    Key("heads", "h", "pane('heads')", "heads, and back", PANES, "heads"),
    Key("attention", "a", "pane('attention')", "attention, and back", PANES, "attention"),
    Key("numbers", "N", "open('numbers')", "every number: now, mean, deviation, course", FULL, "numbers"),
    Key("layers", "L", "open('layers')", "residual stream and heads, layer by layer", FULL, "layers"),
    Key("waterfall", "W", "open('waterfall')", "a token on its way through the sampling chain", FULL, "waterfall"),
    Key("quadrants", "Q", "open('quadrants')", "entropy against varentropy of every step", FULL, "quadrants"),
    Key("branches", "B", "open('branches')", "every run and branch: go, name, compare", FULL, "branches"),
    Key("lanes", "vertical_line", "open('lanes')", "what a shadow or a twin differs in, and thinks", FULL, "lanes"),
    Key("probes", "U", "open('probes')", "questions to the model about the token under the cursor", FULL, "probes"),
    Key("sessions", "ctrl+o", "sessions", "recordings and running engines: go to one", FULL, "sessions"),
    Key("server", "at", "open('server')", "the server that writes: what it tells, takes and ignores", FULL, "server",
        needs="server"),
    Key("chart", "C", "open('chart')", "the chart", FULL, "whole chart"),
    Key("breakpoints", "b", "open('breakpoints')", "breakpoints: conditions to stop at", FULL, "breakpoints"),
    Key("watches", "w", "open('watches')", "strings that are followed at every step", FULL, "watches"),
    Key("zoom", "z", "zoom", "the focused pane on the whole screen, and back", PANES, "zoom"),
    Key("hide", "Z", "hide", "hide the focused pane; on the text, show what is hidden", PANES),
    Key("taller", "shift+up,ctrl+up", "taller(1)", "the focused pane taller", PANES),
    Key("lower", "shift+down,ctrl+down", "taller(-1)", "the focused pane lower", PANES),
    Key("wider", "ctrl+shift+right", "wider(1)", "the column of the focused pane wider", PANES),
    Key("narrower", "ctrl+shift+left", "wider(-1)", "the column of the focused pane narrower", PANES),
    Key("focus", "tab", "focus_next", "focus the next pane", PANES),
    Key("unfocus", "shift+tab", "focus_previous", "focus the pane before", PANES),
    Key("escape", "escape", "escape", "back to the usual panes", PANES),
    Key("help", "question_mark,f1", "help", "all keys, and what the numbers mean", PANES, "help"),
    Key("palette", "ctrl+p", "command_palette", "find an action by name", PANES),
    Key("demo", "f2", "demo", "fewer and larger panes and a caption for every key, for a talk; and back", PANES),
    Key("redraw", "ctrl+l", "redraw", "draw the whole screen again", PANES),
    Key("control", "ctrl+g", "control", "take control of an engine that other screens watch too", PANES),
    Key("detach", "ctrl+d", "detach", "leave, and let the engine go on: `tui-entropy attach` comes back", PANES),
    Key("suspend", "ctrl+z", "suspend_process", "stop here; `fg` in the shell comes back", PANES),
    Key("quit", "q,ctrl+q", "quit", "quit", PANES, "quit"),
)  # fmt: skip
BY_ID = {key.id: key for key in KEYS}
KEY_IDS = re.compile(r"\{([a-z0-9_.]+)\}")


def holds(where: str, place: str) -> bool:
    """Whether a key of `where` acts while a frame's place is `place`."""
    groups = {
        "": (place,), "page": PAGES, "rows": WITH_ROWS, "lists": LISTED,
        "usual": USUAL, "token": (*USUAL, "waterfall"),
    }  # fmt: skip
    return place in groups.get(where, (where,))


NAMES = {
    "left": "←", "right": "→", "up": "↑", "down": "↓", "escape": "esc", "full_stop": ".", "minus": "-", "plus": "+",
    "equals_sign": "=", "question_mark": "?", "left_square_bracket": "[", "right_square_bracket": "]",
    "left_curly_bracket": "{", "right_curly_bracket": "}", "comma": ",", "less_than_sign": "<", "asterisk": "*",
    "greater_than_sign": ">", "percent_sign": "%", "backslash": "\\", "circumflex_accent": "^", "semicolon": ";",
    "colon": ":", "apostrophe": "'", "dollar_sign": "$", "quotation_mark": '"', "vertical_line": "|", "slash": "/",
    "left_parenthesis": "(", "right_parenthesis": ")",
}  # fmt: skip


def key_names(keys: str, ascii_only: bool = False) -> str:
    """Keys as a person reads them: 'shift+left,ctrl+left' is 'shift+← ctrl+←'."""
    words = []
    for key in keys.split(","):
        *held, last = key.split("+")
        name = last if ascii_only and last in ("left", "right", "up", "down") else NAMES.get(last, last)
        words.append("+".join([*held, name]))
    return " ".join(words)


def keys_of(key: Key, own: Mapping[str, str]) -> str:
    """The keys that do it, where `own` are a person's: those of the table, unless they moved it."""
    return own.get(key.id, key.keys)


def with_keys(sentence: str, own: Mapping[str, str], ascii_only: bool = False) -> str:
    """The sentence with the key of each {id} as a person presses it: '{pause} pauses' is 'space pauses'."""
    keys = {
        name: first_key(keys_of(BY_ID[name], own), ascii_only) for name in KEY_IDS.findall(sentence) if name in BY_ID
    }
    return KEY_IDS.sub(lambda found: keys.get(found[1], found[0]), sentence)


def first_key(keys: str, ascii_only: bool = False) -> str:
    """The first of keys that do the same, as a person reads it."""
    return key_names(keys.split(",")[0], ascii_only)


def keymap(file: Path, config: Config | None = None) -> dict[str, str]:
    """A user's keys, by the id of what they do: those of their file, none where there is no such, and over them those
    of their settings that are right. Raises UserError."""
    mine: dict[str, str] = {}
    if file.exists():
        try:
            mine = tomllib.loads(text_of(file))
        except (OSError, ValueError) as error:
            raise UserError(f"{file} cannot be read ({error}): it holds lines such as pause = 'p'") from error
        for name, keys in mine.items():
            if wrong := _wrong(name, keys):
                raise UserError(f"{file}: {wrong}")
    if config is not None:
        mine |= {name: keys for name, keys in config.keys.items() if not _wrong(name, keys)}
    if "quit" in mine:
        mine["quit"] += ",ctrl+q"  # there is always a way out
    return mine


def wrong_keys(config: Config) -> list[str]:
    """What is wrong with the keys in a user's settings, a sentence each."""
    wrong = {name: _wrong(name, keys) for name, keys in config.keys.items()}
    return [f"{config.place(KEYS_TABLE + name)}: {sentence}" for name, sentence in wrong.items() if sentence]


def _wrong(name: str, keys: object) -> str:
    if name not in BY_ID:
        near = get_close_matches(name, BY_ID, 1)
        remedy = f"did you mean {near[0]}?" if near else f"take one of {', '.join(sorted(BY_ID))}"
        return f"{name!r} is no action that a key has: {remedy}"
    if not isinstance(keys, str) or not keys:
        return f"{name!r} has no keys: write them as a string, separated by commas"
    return ""


def bindings() -> list[BindingType]:
    """The keys as Textual's bindings. Where text is typed it is swallowed, so keys of such places are looked at
    before. One key leaves the program wherever one is, whatever lies over the screen."""
    return [
        Binding("ctrl+q", "quit", "quit", show=False, priority=True),
        *(
            Binding(
                key.keys,
                key.action,
                key.label,
                show=False,
                id=key.id,
                priority=key.where in ("prompt", "ask", "knobs"),
            )
            for key in KEYS
        ),
    ]
