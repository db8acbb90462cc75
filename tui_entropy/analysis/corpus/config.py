"""The configuration of an analysis: a YAML file in the format of llm_entropy (FinchMF, 2025), checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import yaml
from msgspec import Meta, Struct

from tui_entropy.core.errors import UserError
from tui_entropy.core.files import bytes_of

Numbers = Annotated[tuple[float, ...], Meta(min_length=1, max_length=1 << 20)]


class ControlVectors(Struct, frozen=True, forbid_unknown_fields=True):
    """Patterns that are repeated to the width of a model."""

    positive: Numbers
    negative: Numbers | None = None

    def pattern(self) -> tuple[float, ...]:
        """Half of the way from the negative to the positive one; of one alone itself."""
        if self.negative is None:
            return self.positive
        if len(self.negative) != len(self.positive):
            raise UserError(
                f"control_vectors has {len(self.positive)} positive and {len(self.negative)} negative numbers: give "
                "as many of both"
            )
        return tuple((one - other) / 2 for one, other in zip(self.positive, self.negative, strict=True))


class Control(Struct, frozen=True, forbid_unknown_fields=True):
    enabled: bool = False
    layer_weights: Numbers | None = None
    token_weights: Numbers | None = None
    control_vectors: ControlVectors | None = None


class AnalysisOptions(Struct, frozen=True, forbid_unknown_fields=True):
    num_sentences: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(gt=0, le=1e6)] = 1.0
    use_sampling: bool = False
    compare_control: bool = False
    control: Control = Control()


class ModelEntry(Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=4096)]
    output_hidden_states: bool = True
    """Of no use here: every layer is measured."""
    control_dimension: int | None = None
    """The same: a pattern is repeated to the width of the model."""


class Output(Struct, frozen=True):
    """Of no use here: the tree has its names."""


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file. What follows `output` are settings of that program's own workings, read and not used."""

    analysis: AnalysisOptions = AnalysisOptions()
    models: dict[Annotated[str, Meta(min_length=1, max_length=100)], ModelEntry] = {}
    output_dir: str | None = None
    output: Output | None = None
    batch_size: Any = None
    max_workers: Any = None
    model_timeout: Any = None
    max_retries: Any = None
    cache_dir: Any = None


def read_config(path: Path) -> Config:
    """Raises UserError for a file that cannot be read, is no YAML, or says what there is not."""
    try:
        found = yaml.safe_load(bytes_of(path))
    except OSError as refused:
        raise UserError(f"--config {path} cannot be read ({refused.strerror}): name a YAML file") from refused
    except (yaml.YAMLError, UnicodeError, RecursionError, ValueError) as error:
        place = getattr(error, "problem_mark", None)
        where = f" at line {place.line + 1}" if place else ""
        raise UserError(f"--config {path} is no YAML{where}: correct it") from None
    try:
        return msgspec.convert(found or {}, Config)
    except msgspec.ValidationError as error:
        said = str(error).replace("`$.", "`").replace("object", "section")
        raise UserError(f"--config {path} is not as it should be: {said}") from None
