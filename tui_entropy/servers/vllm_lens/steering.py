"""Steering: the vectors of a server's session, checked before anything of them is sent, and what they add where."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from tui_entropy.core.errors import UserError
from tui_entropy.records.model import ModelCard
from tui_entropy.records.settings import Vector
from tui_entropy.records.source import ReadVector, VectorFiles
from tui_entropy.servers.vllm_lens.hook_plan import Pushes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LARGEST = {"float16": 4096.0}
"""Dtype -> the largest number that may be added: what overflows is no number, and stays in the server's memory."""
LARGEST_ELSE = 1e17
Change = tuple[int, tuple[Vector, ...]]
"""A step, and the vectors that act from it on."""


class Steering:
    """What is set now; what acts on a text is kept with its run."""

    def __init__(self, card: ModelCard, vector_files: VectorFiles | None) -> None:
        """vector_files: None where nothing reads any, and then there is no vector."""
        self._card, self._files = card, vector_files
        self._read: dict[str, ReadVector] = {}
        self.vectors: tuple[Vector, ...] = ()
        for one in vector_files.built_in(card) if vector_files else ():
            self._add(one, "built in")

    def set(self, vector: Vector) -> bool:
        """Replace the setting of the vector of this name, or read its file first. Returns whether it was read now.
        Raises UserError, and then all is as it was."""
        _check_setting(vector)
        known = next((one for one in self.vectors if one.name == vector.name), None)
        if known is not None and vector.source in (known.source, known.name):
            self._check_size(vector, self._read[known.name])
            setting = replace(vector, source=known.source, blocks=known.blocks, hash=known.hash)
            self.vectors = tuple(setting if one is known else one for one in self.vectors)
            return False
        if self._files is None:
            raise UserError("vectors cannot be read here: leave them out")
        read = self._files.load(Path(vector.source))
        check_directions(vector.name, read.directions, self._card)
        self._check_size(vector, read)
        name = next(n for n in _names(vector.name) if n not in self._read)
        self._add(read, vector.source, replace(vector, name=name))
        return True

    def take(self, vectors: Sequence[Vector]) -> None:
        """Set these again; those that are not among them are off."""
        known = {one.name: one for one in vectors}
        self.vectors = tuple(known.get(one.name, replace(one, on=False)) for one in self.vectors)

    def _check_size(self, vector: Vector, read: ReadVector) -> None:
        import numpy as np

        most = LARGEST.get(self._card.dtype, LARGEST_ELSE)
        factor = max((abs(factor) for _, factor in vector.schedule), default=1.0)
        size = max((float(np.abs(one).max(initial=0)) for one in read.directions.values()), default=0.0)
        if not size * factor * abs(vector.strength) <= most:
            raise UserError(
                f"control vector {vector.name!r} at strength {vector.strength:g} adds numbers larger than {most:g}, "
                f"which {self._card.dtype} cannot hold: choose less"
            )

    def _add(self, read: ReadVector, source: str, setting: Vector | None = None) -> None:
        setting = setting or Vector(read.name, source)
        blocks = tuple(sorted(read.directions))
        self._read[setting.name] = read
        self.vectors += (replace(setting, source=source, blocks=blocks, hash=read.hash),)

    def pushes(self, changes: Sequence[Change], n_prompt: int, max_tokens: int) -> Pushes:
        """What is added at each position of a text, whose tokens are all read again: at those before a change what
        acted when they were written. Keys and values come out as they were then."""
        names: list[str] = []
        segments = []
        for at, (begin, end, vectors) in enumerate(_spans(changes, max_tokens)):
            acting = [(one, one.strength_at(begin + 1)) for one in vectors if one.on]
            told = []
            for one, strength in acting:
                if not strength:
                    continue
                names += [one.name] if one.name not in names else []
                last = self._card.n_layers if one.last is None else one.last
                told.append((names.index(one.name), strength, one.first or 1, last))
            first = 0 if at == 0 else n_prompt + begin - 1
            if told:
                segments.append((first, None if end is None else n_prompt + end - 1, tuple(told)))
        vectors_sent = tuple(
            {b: held.astype("<f4").tobytes() for b, held in self._read[name].directions.items()} for name in names
        )
        return Pushes(vectors_sent, tuple(segments))


def _spans(changes: Sequence[Change], max_tokens: int) -> Iterable[tuple[int, int | None, tuple[Vector, ...]]]:
    """Steps from and up to -> the vectors whose strengths are the same at all of them; the first begins at 0, which
    the prompt is read for."""
    ends = [begin for begin, _ in changes[1:]]
    for (begin, vectors), end in zip(changes, [*ends, None], strict=True):
        points = [step for one in vectors if one.on for step, _ in one.schedule]
        rest = max(begin, min(math.ceil(max(points, default=1)) - 1, max_tokens if end is None else end))
        for step in range(begin, rest):
            yield step, step + 1, vectors
        if end is None or rest < end:
            yield rest, end, vectors


def check_directions(name: str, directions: Mapping[int, npt.NDArray[np.float32]], card: ModelCard) -> None:
    """Raise UserError for what the server would pass over without a word (another width), or what would poison it for
    everybody (a number that is not finite)."""
    import numpy as np

    for block, direction in sorted(directions.items()):
        if direction.shape != (card.d_model,):
            found = f"is {direction.size} wide at block {block}, and the model is {card.d_model}"
        elif not 1 <= block <= card.n_layers:
            found = f"acts on block {block}, and the model has {card.n_layers}"
        elif not np.isfinite(direction).all():
            found = f"has numbers at block {block} that are not finite"
        else:
            continue
        raise UserError(f"control vector {name!r} {found}: nothing of it was sent; choose one made for this model")


def steers(vectors: Iterable[Vector]) -> bool:
    """Whether any of them may add something."""
    return any(one.on and one.strength for one in vectors)


def _check_setting(vector: Vector) -> None:
    if vector.part:
        raise UserError(
            f"{vector.name}: a server's blocks are steered by vectors, and no part of them is scaled there"
        )
    if vector.condition:
        raise UserError(f"{vector.name}: a server cannot steer by a condition of the newest token: leave it out")
    strengths = [vector.strength, *(factor for _, factor in vector.schedule)]
    if not all(math.isfinite(one) for one in strengths):
        raise UserError(f"the strength of {vector.name!r} is not finite: give a number")


def _names(stem: str) -> Iterable[str]:
    """A name, and others where it is taken."""
    yield stem
    n = 2
    while True:
        yield f"{stem} {n}"
        n += 1
