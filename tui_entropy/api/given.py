"""What a caller gives, such as a number of numpy or a column of pandas, as the records that a session is told by.

Everything is looked at here, and a mistake is a UserError: one sentence.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from os import PathLike, fspath
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import structs
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tui_entropy.core.errors import UserError
from tui_entropy.engine.loading.loader import adopted, load
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.steering.control_vector import ControlVector
from tui_entropy.engine.tokenization.tokenizer import Tokenizer
from tui_entropy.records.bounds import MAX_CHARS, MOST_TOKENS
from tui_entropy.records.commands import Message
from tui_entropy.records.knobs import BY_NAME, check
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.probes.ask import Value
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Lane, Vector
from tui_entropy.records.step import Candidate, Step
from tui_entropy.stages.registry import ORDERS


def plain(value: Any) -> Any:
    """A number of numpy as one of Python, an array or a list as a tuple, a path as text; all else as it is."""
    if isinstance(value, np.ndarray) and value.ndim:
        return tuple(map(plain, value))
    if isinstance(value, np.generic | np.ndarray):
        return value.item()
    if isinstance(value, list | tuple):
        return tuple(map(plain, value))
    return fspath(value) if isinstance(value, PathLike) else value


def whole(value: Any, what: str, least: int = 1, most: int = MOST_TOKENS) -> int:
    """Raises UserError for what is no whole number from `least` to `most`."""
    number = plain(value)
    if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
        raise UserError(f"{what} is {value!r} but must be a whole number between {least} and {most}")
    return number


def similar(name: str, known: Iterable[str]) -> str:
    """What may have been meant, as the end of a sentence."""
    names = list(known)
    close = get_close_matches(name, names, 1)
    return f"did you mean {close[0]}?" if close else f"take one of {', '.join(names)}"


# --- Texts ---------------------------------------------------------------------------------------------------


def text_of(value: Any, what: str = "the prompt") -> str:
    """Raises UserError for what is not one text."""
    if not isinstance(value, str):
        kind = "None" if value is None else f"a {type(value).__name__}"
        many = "; write_all and read_all take several" if hasattr(value, "__iter__") else ""
        raise UserError(f"{what} is {kind} where one text was wanted: give a str{many}")
    if len(value) > MAX_CHARS:
        raise UserError(f"{what} has {len(value)} characters and {MAX_CHARS} are read at most: give a part of it")
    return str(value)


def labelled_texts(values: Any) -> list[tuple[Any, Any]]:
    """(label, text) of each: of a Series by its index, of a mapping by its keys, of any other by the place. Raises
    UserError for a single text."""
    if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
        raise UserError(f"a {type(values).__name__} is not several texts: give a list, an array or a Series of them")
    if callable(getattr(values, "items", None)):
        return list(values.items())
    return list(enumerate(values))


def messages_of(values: Any) -> tuple[Message, ...]:
    """Of a conversation: mappings with a role and a content. Raises UserError."""
    turns = list(values)
    found = []
    for n, turn in enumerate(turns, 1):
        role, content = (turn.get("role"), turn.get("content")) if isinstance(turn, Mapping) else (None, None)
        if not isinstance(role, str) or not isinstance(content, str):
            wanted = '{"role": "user", "content": "Hello"}'
            raise UserError(f"message {n} lacks a role or a content that is text: wanted such as {wanted}")
        found.append(Message(role, content))
    if not found:
        raise UserError("there are no messages to read: give one at least")
    return tuple(found)


def token_ids_of(values: Any, tokenizer: Tokenizer, vocab: int) -> tuple[int, ...]:
    """One token or several: an id, a text that is a single token, a Candidate, a Step, or a list of these. Raises
    UserError for what is none."""
    value = plain(values)
    if isinstance(value, Candidate | Step):
        return (value.token_id,)
    if isinstance(value, str):
        found = tokenizer.encode_single_token(value)
        if found is None:
            raise UserError(f"{value!r} is not one token of this model: give an id, or force the text as `text`")
        return (found,)
    if isinstance(value, tuple | set | frozenset):
        return tuple(token for one in value for token in token_ids_of(one, tokenizer, vocab))
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < vocab:
        raise UserError(f"there is no token {value!r}: this model has those from 0 to {vocab - 1}")
    return (value,)


# --- Settings ------------------------------------------------------------------------------------------------


def knobs_with(knobs: Knobs, changes: Mapping[str, Any], vocab: int | None = None) -> Knobs:
    """The same with some of them turned. Raises UserError for a knob or a value that there is not."""
    fields: dict[str, Any] = {}
    for name, value in changes.items():
        if name not in BY_NAME:
            raise UserError(f"there is no knob {name!r}: {similar(name, BY_NAME)}")
        value = plain(value)
        if name == "order" and isinstance(value, str):
            value = ORDERS.get(value, (value,))
        elif (name == "dry_breakers" and isinstance(value, str)) or (
            name == "banned" and isinstance(value, int) and not isinstance(value, bool)
        ):
            value = (value,)
        fields[name] = value
    try:
        made = msgspec.convert(structs.asdict(knobs) | fields, Knobs)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at ")
        name = place.strip("`$.").split("[")[0] or "a knob"
        raise UserError(f"{name} cannot be {changes.get(name)!r}: {reason.lower()}") from error
    check(made, vocab)
    return made


def options_with(options: Mapping[str, Any]) -> dict[str, Value]:
    """Of a probe, which then says what it accepts. Raises UserError for what is no number."""
    found = {name: plain(value) for name, value in options.items()}
    for name, value in found.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{name} cannot be {value}: give a number")
    return found


# --- Lanes -------------------------------------------------------------------------------------------------------


def lane_of(
    present: Knobs, known: Iterable[Vector], vocab: int, name: str, prompt: Any, system: Any, vectors: Any,
    knobs: Mapping[str, Any],
) -> Lane:  # fmt: skip
    """Another lane beside a run, in which only what is given is otherwise. present, known: the knobs and vectors of
    that run. vectors: names of those that are on, or a mapping of names to strengths. Raises UserError."""
    if system is not None and prompt is None:
        raise UserError("a system prompt goes with a prompt: give that too")
    if prompt is None and vectors is None and not knobs:
        raise UserError("the other lane would be this run once more: give knobs, vectors or a prompt for it")
    lane_vectors = None
    if vectors is not None:
        of = {vector.name: vector for vector in known}
        wanted = dict(vectors) if isinstance(vectors, Mapping) else dict.fromkeys(vectors)
        if unknown := [one for one in wanted if one not in of]:
            raise UserError(f"there is no vector {unknown[0]!r}: {similar(str(unknown[0]), of) if of else 'none'}")
        lane_vectors = tuple(
            structs.replace(one, on=each in wanted, strength=_strength(wanted.get(each), one.strength))
            for each, one in of.items()
        )
    told = [f"{knob} {value}" for knob, value in knobs.items()]
    told += ["other prompt"] * (prompt is not None) + ["other vectors"] * (vectors is not None)
    return Lane(
        text_of(name, "the name") or ", ".join(told),
        lane_vectors,
        knobs_with(present, knobs, vocab) if knobs else None,
        None if prompt is None else text_of(prompt),
        None if system is None else text_of(system, "the system prompt"),
    )


def _strength(value: Any, usual: float) -> float:
    number = plain(value)
    if number is None:
        return usual
    if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) <= 1e9:
        raise UserError(f"the strength is {value!r} but must be a number")
    return float(number)


# --- Models --------------------------------------------------------------------------------------------------


def model_of(model: Any, tokenizer: Any, options: Mapping[str, Any], report: Any) -> Loaded:
    """A model that is loaded already, or the one of this name. tokenizer: of a model of transformers. options: fields
    of ModelSpec. Raises UserError."""
    if isinstance(model, PreTrainedModel) and not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise UserError("a model of transformers comes with its tokenizer: give that too, as tokenizer=")
    if tokenizer is not None and not isinstance(model, PreTrainedModel):
        raise UserError("a tokenizer goes with a model of transformers, and a name brings its own: leave it out")
    if isinstance(model, Loaded | PreTrainedModel):
        if options:
            raise UserError(f"{next(iter(options))} is for a model that is still to be loaded: leave it out")
        return model if isinstance(model, Loaded) else adopted(model, tokenizer)
    spec = model if isinstance(model, ModelSpec) else ModelSpec(text_of(plain(model), "the model"))
    known = ModelSpec.__struct_fields__
    if unknown := [name for name in options if name not in known]:
        raise UserError(f"there is no option {unknown[0]!r} of a model: {similar(unknown[0], known)}")
    return load(structs.replace(spec, **options), report)


# --- Control vectors -----------------------------------------------------------------------------------------


def vector_of(value: Any, layers: Any, name: str, n_layers: int) -> ControlVector:
    """Directions as a control vector. value: (n_layers, d_model), (d_model,) for the blocks of `layers`, or block
    (1-based) -> (d_model,). Raises UserError for another shape, and for what is not finite."""
    if isinstance(value, Mapping):
        directions = {whole(plain(block), "a block", 1, n_layers): _array(each) for block, each in value.items()}
    else:
        array = _array(value)
        if array.ndim == 2 and len(array) == n_layers:
            directions = dict(enumerate(array, 1))
        elif array.ndim == 1:
            first, last = blocks_of(layers, n_layers)
            if first is None or last is None:
                raise UserError("one direction is for a block, and none is named: say layers=12, or layers=(10, 20)")
            directions = dict.fromkeys(range(first, last + 1), array)
        else:
            raise UserError(
                f"the vector has the shape {array.shape} where (d_model,) or ({n_layers}, d_model) was wanted: give "
                "a direction, or one for each block"
            )
    if not directions or any(each.ndim != 1 for each in directions.values()):
        raise UserError(
            "the vector has no direction for any block, or one that is no row of numbers: give (d_model,)"
        )
    if not all(np.isfinite(each).all() for each in directions.values()):
        raise UserError("the vector holds numbers that are not finite: look at how it was made")
    return ControlVector(name, directions)


def _array(value: Any) -> npt.NDArray[np.float32]:
    if hasattr(value, "detach"):  # of torch, wherever it is
        value = value.detach().cpu().float()
    try:
        return np.ascontiguousarray(value, dtype=np.float32)
    except (TypeError, ValueError):
        raise UserError(f"a {type(value).__name__} is no array of numbers: give one of shape (d_model,)") from None


def blocks_of(layers: Any, n_layers: int) -> tuple[int | None, int | None]:
    """(first, last) of blocks counted from 1: of one, of a pair, or of None for all that a vector has. Raises
    UserError."""
    value = plain(layers)
    if value is None:
        return None, None
    pair = value if isinstance(value, tuple) else (value, value)
    if isinstance(value, range):
        pair = (value.start, value.stop - 1)
    if len(pair) != 2:
        raise UserError(f"layers is {layers!r} but must be a block or the first and the last one, such as (10, 20)")
    first, last = (whole(one, "a block", 1, n_layers) for one in pair)
    if first > last:
        raise UserError(f"layers is {layers!r}, whose first block is behind its last: turn them round")
    return first, last
