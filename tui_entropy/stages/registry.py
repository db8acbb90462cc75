"""Every stage of the sampling chain there is, and what follows: the knobs that set them, and the orders.

To add one: a `Stage` in the file of its family. It is in every order then, and its knobs are fields of `Knobs`:
options of commands, on the knob strip, in traces and JSON lines, and checked where they come in. Doctor has it a
second time, the bench tells what it costs, and the README has a row for it.
"""

from __future__ import annotations

from tui_entropy.stages.dry import DRY
from tui_entropy.stages.last import LAST
from tui_entropy.stages.penalties import PENALTIES
from tui_entropy.stages.stage import PRESETS, Knob, Stage
from tui_entropy.stages.temperature import TEMPERATURE
from tui_entropy.stages.truncation import TRUNCATION


def _as_shown(stages: tuple[Stage, ...]) -> tuple[Knob, ...]:
    """The knobs of these stages in their order, but for those that follow another one."""
    knobs = [knob for stage in stages for knob in stage.knobs]
    shown = [knob for knob in knobs if not knob.after]
    for knob in knobs:
        if knob.after:
            shown.insert(1 + [other.name for other in shown].index(knob.after), knob)
    return tuple(shown)


STAGES: tuple[Stage, ...] = (*TEMPERATURE, *TRUNCATION, *PENALTIES, *DRY, *LAST)
"""The stages, in the order in which a screen shows them."""
BY_NAME = {stage.name: stage for stage in STAGES}
STAGE_KNOBS = _as_shown(STAGES)
"""Their knobs, in the order in which a screen shows those."""
ORDERS: dict[str, tuple[str, ...]] = {
    preset: tuple(stage.name for stage in sorted(STAGES, key=lambda stage: stage.places[nth]))
    for nth, preset in enumerate(PRESETS)
}
"""The stages in the order of each engine. A stage is named after the knob that sets it."""
