"""A session of a small model, with all that it told."""

import torch
from msgspec.structs import replace

from tui_entropy.engine.session.session import Session
from tui_entropy.engine.steering.control_vector import ControlVector, setting
from tui_entropy.records.commands import Branch, Write
from tui_entropy.records.sampling import Knobs
from tui_entropy.state.session_view import SessionView

DRAWN = Knobs(temperature=1.0, top_k=0, top_p=1.0, seed=3)
PROMPT = "ABCDEFGHIJ"
PLENTY = 1 << 24


class Teller:
    """A session with all that it told, and a vector that can be switched on."""

    def __init__(self, loaded, probes, bound=PLENTY, knobs=DRAWN, n=60):
        self.log, self.events = SessionView(), []
        self.session = Session(loaded, probes, self.take, bound)
        noise = torch.Generator().manual_seed(5)
        push = ControlVector("push", {2: torch.randn(32, generator=noise).numpy() * 2})
        self.session.state.directions["push"] = push
        self.off = replace(setting(push, "test"), on=False)
        self.on = replace(self.off, on=True)
        self.session.state.vectors += (self.off,)
        self.session.begin(Write(PROMPT, None, False, n, knobs))

    def take(self, event):
        self.log.append(event)
        self.events.append(event)

    @property
    def kept(self):
        return self.session.branches.rewinder.prefix_cache

    def write(self, n):
        """n tokens more, as far as it goes; what was written of them."""
        before = len(self.log.steps)
        while self.session.active and len(self.log.steps) < before + n:
            self.session.advance()
        return [step.token_id for step in list(self.log.steps)[before:]]

    def branch(self, step, run=None, **what):
        self.session.branch(Branch(run or self.session.state.run_number, step, **what))
        return self.session.state.run_number

    def go(self, run):
        self.session.go(run)
