"""The step once more with other knobs: the probe that is asked while knobs are turned over an earlier token."""

from __future__ import annotations

STEP = "step"
"""The name of the probe; its options are those of `Knobs`."""
