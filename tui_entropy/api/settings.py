"""Settings: the stops, watches and control vectors of an Inspector."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from tui_entropy.api.given import blocks_of, plain, similar, text_of, vector_of, whole
from tui_entropy.api.opened import OpenModel, numbered
from tui_entropy.core.errors import UserError
from tui_entropy.engine.steering.control_vector import ControlVector
from tui_entropy.records.settings import Breakpoint, Vector, scaled_part

AN_ARRAY = "an array"
"""The source of a vector that is in no file."""


class Settings(OpenModel):
    """What is set beside the knobs, for the present run and those that begin after."""

    # --- Stops and watches ---------------------------------------------------------------------------------------

    @property
    def breakpoints(self) -> tuple[Breakpoint, ...]:
        """With their hits. Set by expressions, as of docs/breakpoints.md: writing stops before a token of which one
        is true, and `run.paused` says which. Raises UserError for one that is wrong.

        Example:
            >>> inspector.breakpoints = ["token == ' Paris'"]
            >>> run = inspector.generate("The capital of France is", chat=False, temperature=0, max_tokens=4)
            >>> run.paused, run.proposed.text, inspector.breakpoints[0].hits
            ('breakpoint: token == " Paris"', ' Paris', 1)
            >>> inspector.breakpoints = []
        """
        return self._live.session.state.breakpoints.breakpoints

    @breakpoints.setter
    def breakpoints(self, expressions: Iterable[str | Breakpoint]) -> None:
        texts = [expressions] if isinstance(expressions, str) else list(expressions)
        wanted = tuple(
            one.expression if isinstance(one, Breakpoint) else text_of(one, "a breakpoint") for one in texts
        )
        with self._live.at_work() as session:
            session.set_breakpoints(numbered(wanted))
        self._breakpoints = wanted

    @property
    def watches(self) -> tuple[str, ...]:
        """Texts whose first token is followed at every step, in `step.watched`. Raises UserError for one that is no
        token.

        Example:
            >>> inspector.watches = [" Paris"]
            >>> run = inspector.generate("The capital of France is", chat=False, temperature=0, max_tokens=1)
            >>> run[0].watched[0].rank
            1
            >>> inspector.watches = []
        """
        return tuple(watch.text for watch in self._live.session.state.breakpoints.watches)

    @watches.setter
    def watches(self, texts: Iterable[str]) -> None:
        wanted = tuple(text_of(one, "a watch") for one in ([texts] if isinstance(texts, str) else texts))
        with self._live.at_work() as session:
            session.set_watches(wanted)
        self._watches = wanted

    # --- Steering ------------------------------------------------------------------------------------------------

    @property
    def vectors(self) -> tuple[Vector, ...]:
        """Every control vector that is known, as it is set: name, strength, on, first, last."""
        return self._live.session.state.vectors

    def steer(
        self,
        vector: Any,
        strength: float = 1.0,
        *,
        layers: Any = None,
        name: str = "vector",
        when: str = "",
        schedule: Mapping[int, float] | None = None,
        rebuild: bool = False,
    ) -> Vector:
        """Switch a control vector on, from the next token of the present run on and in runs that begin after. Keys
        and values that are there stay as they are.

        Args:
            vector: the name of one of `vectors`; a file of llama.cpp, repeng or this program; or directions in an
                array of numpy or torch: (d_model,) for the blocks of `layers`, (n_layers, d_model), or a mapping of
                blocks to (d_model,). A direction of block k is added to what that block puts out.
            strength: what it is multiplied by.
            layers: the blocks that it acts on, counted from 1: one, or the first and the last.
            name: of one that is given as an array.
            when: a condition, in the words of breakpoints: it acts behind a token that meets it.
            schedule: step, from 1 on -> factor of the strength there, on a line between.
            rebuild: whether the whole text is read again under it.

        Returns how it is set. Raises UserError for numbers that are not finite, and for another width than d_model.

        Example:
            >>> import numpy as np
            >>> up = np.ones(inspector.card.d_model)
            >>> inspector.steer(up, 0.5, layers=12, name="up").name
            'up'
            >>> inspector.unsteer()
        """
        strength = plain(strength)
        if isinstance(strength, bool) or not isinstance(strength, int | float) or not abs(strength) <= 1e9:
            raise UserError(f"the strength is {strength!r} but must be a number")
        points = tuple((whole(plain(at), "a step"), float(plain(factor))) for at, factor in (schedule or {}).items())
        with self._live.at_work() as session:
            setting, made = self._vector(plain(vector) if isinstance(vector, PathLike) else vector, layers, name)
            setting = replace(setting, strength=float(strength), on=True, condition=when, schedule=points)
            before = self._names()
            session.set_vector(setting, rebuild, made)
            return next((one for one in self.vectors if one.name not in before), None) or self._named(setting.name)

    def _vector(self, vector: Any, layers: Any, name: str) -> tuple[Vector, ControlVector | None]:
        """How it is to be set, and its directions if it is in no file and new."""
        n_layers = self.card.n_layers
        if isinstance(vector, Vector):
            vector = vector.name
        if isinstance(vector, str):
            known = next((one for one in self.vectors if vector in (one.name, one.source)), None)
            if known is None and not Path(vector).exists():
                names = ", ".join(self._names()) or "none"
                raise UserError(f"there is no vector {vector!r}, and no file of that name: known are {names}")
            first, last = blocks_of(layers, n_layers)
            setting = known or Vector(Path(vector).stem, vector)
            return replace(setting, first=first, last=last), None
        made = vector_of(vector, layers, text_of(name, "the name"), n_layers)
        known = next((one for one in self.vectors if one.hash == made.hash), None)
        return known or Vector(made.name, AN_ARRAY), None if known else made

    def _names(self) -> list[str]:
        return [vector.name for vector in self.vectors]

    def _named(self, name: str) -> Vector:
        return next(vector for vector in self.vectors if vector.name == name)

    def ablate(self, part: str, factor: float = 0.0) -> Vector:
        """Scale what a part of a block adds: '12.3' is head 3 of block 12, '12.attention' and '12.feed-forward' all
        of that. It stands among `vectors`. Raises UserError for one that there is not.

        Example:
            >>> inspector.ablate("12.3").strength
            0.0
            >>> inspector.unsteer("12.3")
        """
        try:
            wanted = scaled_part(f"{text_of(part, 'the part')}={float(plain(factor))}")
        except (TypeError, ValueError) as mistake:
            raise UserError(f"the part {part!r} times {factor!r}: {mistake}") from None
        with self._live.at_work() as session:
            session.set_vector(wanted)
            return self._named(wanted.name)

    def unsteer(self, name: str | None = None) -> None:
        """Switch a vector off, or all. Raises UserError for a name that there is not."""
        if name is not None and name not in self._names():
            raise UserError(f"there is no vector {name!r}: {similar(name, self._names())}")
        with self._live.at_work() as session:
            for vector in self.vectors:
                if vector.on and name in (None, vector.name):
                    session.set_vector(replace(vector, on=False))
