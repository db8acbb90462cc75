"""The needs of a key: conditions on a frame without which it is refused, by the names that the key table uses."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from tui_entropy.records.source import Capabilities, inability
from tui_entropy.ui.keys.branch_choice import chosen
from tui_entropy.ui.keys.head_choice import next_of_a_kind
from tui_entropy.ui.keys.keymap import BY_ID, KEYS, Key
from tui_entropy.ui.keys.probe_choice import ProbesState, chosen_probe
from tui_entropy.ui.keys.session_choice import SessionsState, chosen_session
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.jump_targets import has_targets

GOING, GONE = ("reading", "writing", "paused"), ("failed", "lost")


def offered(frame: Frame, key: Key) -> bool:
    """Whether the footer may offer it: pressed now, it does what it says."""
    return key.name not in frame.lacking and all(NEEDS[need](frame) for need in key.needs.split())


@lru_cache(64)
def unable(capabilities: Capabilities) -> frozenset[str]:
    """The actions of keys that tell a source what it cannot be told."""
    return frozenset(
        key.name for key in KEYS if key.tells and not any(capabilities.can(told) for told in key.tells.split())
    )


def inability_of(action: str, capabilities: Capabilities) -> str:
    """The sentence that refuses such an action."""
    return inability(next(key for key in KEYS if key.name == action and key.tells).tells.split()[0], capabilities)


def acts(frame: Frame, key_id: str) -> bool:
    """The same of a key by its id: a sentence on a page names it only then."""
    return offered(frame, BY_ID[key_id])


def can_go_on(frame: Frame) -> bool:
    """Whether there is a text to be written on, also after a stop."""
    return frame.log.state in GOING or frame.log.stopped


def _another(frame: Frame) -> bool:
    """The step under the cursor can be written in another way."""
    second = frame.second and frame.log.twin is not None
    fixed = second or bool(frame.played)
    return frame.step is not None and not fixed and frame.log.state in (*GOING, "ended")


def _has_options(frame: Frame) -> bool:
    probe = chosen_probe(frame)
    return probe is not None and bool(probe.options)


def _elsewhere(frame: Frame) -> bool:
    """A session is chosen, and it is not the one that this screen shows."""
    session = chosen_session(frame)
    return session is not None and session.name != frame.of(SessionsState).here


def _chosen_lane(frame: Frame) -> str:
    """The kind of the chosen lane: 'same' as what is there, 'typed' where it has a prompt to type, else 'made'."""
    from tui_entropy.ui.keys.lane_choices import PROMPT, SYSTEM, choices  # a view, which hints must not know

    lanes = choices(frame)
    choice = lanes[min(frame.row, len(lanes) - 1)]
    return "same" if choice.same else "typed" if choice.name in (SYSTEM, PROMPT) else "made"


NEEDS: dict[str, Callable[[Frame], bool]] = {
    "going": lambda frame: bool(frame.played) or can_go_on(frame),
    "active": lambda frame: frame.log.state in GOING,
    "begun": lambda frame: frame.log.started is not None,
    "closed": lambda frame: frame.log.started is not None and not frame.log.started.n_given,
    "engine": lambda frame: frame.log.state not in GONE,
    "recorded": lambda frame: bool(frame.played or (frame.log.state in GONE and frame.log.trace and frame.log.runs)),
    "gone": lambda frame: frame.log.state in GONE,
    "steps": lambda frame: frame.last >= 0,
    "targets": lambda frame: frame.last >= 0 and has_targets(frame.looked_at),
    "kinds": lambda frame: next_of_a_kind(frame.looked_at) is not None,
    "text": lambda frame: len(frame.log.steps) > 0,
    "another": _another,
    "choice": lambda frame: frame.held_up or frame.candidate is not None or not frame.following,
    "vectors": lambda frame: bool(frame.vectors),
    "branch": lambda frame: chosen(frame) in frame.log.runs,
    "other": lambda frame: chosen(frame) != frame.log.run_number,
    "session": _elsewhere,
    "lanes": lambda frame: "lane" not in frame.lacking,
    "lane": lambda frame: _chosen_lane(frame) != "same",
    "prompt": lambda frame: _chosen_lane(frame) == "typed" and frame.log.started is not None,
    "probes": lambda frame: bool(frame.log.probes),
    "server": lambda frame: frame.log.card is not None and frame.log.card.server is not None,
    "options": _has_options,
    "awaited": lambda frame: frame.of(ProbesState).pending is not None,
    "fan": lambda frame: frame.log.sampled is not None and bool(frame.log.sampled.rows),
    "run.before": lambda frame: frame.log.run_number > min(frame.log.runs, default=0),
    "run.after": lambda frame: frame.log.run_number < max(frame.log.runs, default=0),
    "history": lambda frame: "history" in frame.box,
    "mode": lambda frame: "mode" in frame.box,
    "system": lambda frame: "system" in frame.box,
}
"""Condition -> whether it holds. A recording can always be played on."""
