"""What the keys do on the page of probes: ask one, set its options, give one up."""

from __future__ import annotations

from tui_entropy.records.events import Event, Refused
from tui_entropy.records.probes.ask import CancelProbe, ProbeAnswer, Value
from tui_entropy.records.probes.options import help_on, options_text, read_options, words_of
from tui_entropy.ui.keys.probe_choice import (
    ProbesState,
    chosen_probe,
    question,
    shown_values,
)
from tui_entropy.ui.protocol.actions import EngineActions
from tui_entropy.ui.protocol.remark import Remark, checked


class ProbeActions(EngineActions):
    """One question at a time."""

    def action_ask_probe(self) -> None:
        asked = question(self.app.frame)
        if asked is None:
            self.app.refuse("there is no text yet that could be asked about: {prompt} asks for a prompt")
        elif (awaited := self.app.frame.of(ProbesState).pending) is not None:
            self.app.refuse(
                f"{awaited.name} is still being answered: wait for it, or give it up with {{probes.cancel}}"
            )
        else:
            self.app.show(**self.app.frame.put(ProbesState, pending=asked, scroll=0))
            self.app.tell(asked)

    def action_edit_probe(self) -> None:
        probe = chosen_probe(self.app.frame)
        if probe is None or not probe.options:
            self.app.refuse("there is nothing to set for this probe")
            return

        def read(typed: str) -> dict[str, Value]:
            return read_options(probe, words_of(probe, typed))

        def take(typed: str) -> None:
            state = self.app.frame.of(ProbesState)
            options = {**state.own_options, probe.name: read(typed)}
            self.app.show(**self.app.frame.put(ProbesState, own_options=options))
            self.action_ask_probe()

        def check(typed: str) -> Remark:
            wrong = checked(read)(typed)
            return wrong if wrong.sentence else Remark(help_on(probe, typed))

        shown = options_text(shown_values(self.app.frame, probe))
        self.app.ask(f"options of {probe.name}", take, shown, check)

    def action_cancel_probe(self) -> None:
        if self.app.frame.of(ProbesState).pending is None:
            self.app.refuse("nothing is being answered")
        else:
            self.app.tell(CancelProbe())

    def on_event(self, event: Event) -> None:
        """An answer, or that there will be none."""
        awaited = self.app.frame.of(ProbesState).pending
        if awaited is None:
            return
        answered = isinstance(event, ProbeAnswer) and (event.name, event.run) == (awaited.name, awaited.run)
        if answered or isinstance(event, Refused):
            self.app.show(**self.app.frame.put(ProbesState, pending=None))
