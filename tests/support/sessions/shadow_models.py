"""Small models with vectors on, for shadows."""

import torch
from small import endless
from small import loaded as small_model

from tui_entropy.engine.session.session import Session
from tui_entropy.engine.steering.control_vector import ControlVector
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Vector
from tui_entropy.records.step import Step

PROMPT, OTHER, LONGER = "ABCDEFGHIJ", "KLMNOPQRST", "The other prompt: ABC"
PRESETS = {
    "as set": Knobs(),
    "greedy": Knobs(temperature=0),
    "hot": Knobs(temperature=1.5, top_k=0, top_p=1.0),
    "penalties": Knobs(repetition_penalty=1.2, frequency_penalty=0.3, dry_multiplier=0.8),
    "llama.cpp": Knobs(xtc_probability=0.5, min_p=0.05, typical_p=0.9),
    "mirostat": Knobs(mirostat_tau=3.0),
    "S1": Knobs(adaptive="S1", clarifier="?"),
    "S3": Knobs(adaptive="S3"),
    "own": Knobs(adaptive="own"),
}


def model(family: str):
    return endless(small_model(family))


def pushed(session: Session, strength: float = 2.0) -> Vector:
    """A vector that acts on two blocks, on."""
    noise = torch.Generator().manual_seed(0)
    directions = {block: torch.randn(32, generator=noise).numpy() for block in (1, 3)}
    session.state.directions["v"] = ControlVector("v", directions)
    vector = Vector("v", "v", (1, 3), strength, on=True)
    session.state.vectors = (vector,)
    return vector


def steps(events) -> list[Step]:
    return [event for event in events if isinstance(event, Step)]
