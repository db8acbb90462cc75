"""Every stage of the sampling chain there is, and what follows: the knobs that set them, and the orders.

To add one: a `Stage` in the file of its family. It is in every order then, and its knobs are fields of `Knobs`:
options of commands, on the knob strip, in traces and JSON lines, and checked where they come in. Doctor has it a
second time, the bench tells what it costs, and the README has a row for it.
"""

from __future__ import annotations

from tui_entropy.stages.dry import DRY
from tui_entropy.stages.last import LAST
from tui_entropy.stages.penalties import PENALTIES
from tui_entropy.stages.stage import PRESETS, Stage
from tui_entropy.stages.temperature import TEMPERATURE
from tui_entropy.stages.truncation import TRUNCATION

STAGES: tuple[Stage, ...] = (*TEMPERATURE, *TRUNCATION, *PENALTIES, *DRY, *LAST)
"""The stages, in the order in which a screen shows their knobs."""
BY_NAME = {stage.name: stage for stage in STAGES}
STAGE_KNOBS = tuple(knob for stage in STAGES for knob in stage.knobs)
ORDERS: dict[str, tuple[str, ...]] = {
    preset: tuple(stage.name for stage in sorted(STAGES, key=lambda stage: stage.places[nth]))
    for nth, preset in enumerate(PRESETS)
}
"""The stages in the order of each engine. A stage is named after the knob that sets it."""
