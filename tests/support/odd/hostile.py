"""What nobody in their right mind sends: messages of every wrong kind, and every command with extreme values."""

import math
import struct
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from tui_entropy.records.arrays import Grid
from tui_entropy.records.commands import Command
from tui_entropy.records.events import Event
from tui_entropy.transport import connection

INTS = (0, 1, -1, 2, 3, 7, 200, 10**6, 2**31, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1, -(2**31), -(2**63))
FLOATS = (0.0, 1.0, -1.0, 0.5, 1e-300, 1e30, 1e308, -1e308, math.inf, -math.inf, math.nan)
TEXTS = ("", "A", "entropy > 1", 'text ~ "A"', "(" * 900, "\0\x1b[2J\u202e", "x" * 5000, "write", "line", "S1", "own")


def framed(body: bytes) -> bytes:
    return connection.LENGTH.pack(len(body)) + body


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Of a field of a record: inside and outside of what it may be, and now and then of another kind."""
    match kind:
        case inspect.IntType():
            ends = [end + by for end in (kind.ge, kind.le) if end is not None for by in (-1, 0, 1)]
            wild = [*INTS, *(end for end in ends if -(2**63) <= end < 2**64)]
            return st.sampled_from([1, 2, 3, 0]) | st.integers(0, 40) | st.sampled_from(wild)
        case inspect.FloatType():
            return st.floats(0, 1) | st.sampled_from(
                [*FLOATS, *(end for end in (kind.ge, kind.le) if end is not None)]
            )
        case inspect.StrType():
            return st.sampled_from(TEXTS)
        case inspect.BytesType():
            return st.binary(max_size=9)
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.UnionType():
            return st.one_of([values(each) for each in kind.types])
        case inspect.VarTupleType():
            return st.lists(values(kind.item_type), max_size=3)
        case inspect.TupleType():
            return st.tuples(*map(values, kind.item_types))
        case inspect.DictType():
            return st.dictionaries(values(kind.key_type), values(kind.value_type), max_size=2)
        case inspect.StructType() if kind.cls is Grid:
            return st.lists(st.integers(0, 3), min_size=1, max_size=2).flatmap(grids)
        case inspect.StructType() if kind.array_like:
            return st.tuples(*(values(field.type) for field in kind.fields))
        case inspect.StructType():
            must = {field.encode_name: values(field.type) for field in kind.fields if field.required}
            may = {field.encode_name: values(field.type) for field in kind.fields if not field.required}
            tag = {kind.tag_field: st.just(kind.tag)} if kind.tag_field else {}
            return st.fixed_dictionaries({**tag, **must}, optional=may)
    raise NotImplementedError(kind)


def grids(shape: list[int]) -> st.SearchStrategy[list[Any]]:
    """As they are sent, with any numbers that 32 bits can hold."""
    size = math.prod(shape)
    numbers = st.sampled_from([0.0, 1.0, -1.0, 1e-30, 3e38, math.inf, -math.inf, math.nan])
    return st.lists(numbers, min_size=size, max_size=size).map(lambda flat: [shape, struct.pack(f"<{size}f", *flat)])


def leaves(kind: Any, path: str = ""):
    """(path, type) of all numbers, texts and lists in a record, however deep."""
    match kind:
        case inspect.StructType():
            for field in kind.fields:
                yield from leaves(field.type, f"{path}.{field.name}")
        case inspect.UnionType():
            for each in kind.types:
                yield from leaves(each, path)
        case inspect.VarTupleType():
            yield path, kind
            yield from leaves(kind.item_type, f"{path}[]")
        case inspect.IntType() | inspect.FloatType() | inspect.StrType():
            yield path, kind


KINDS = {each.tag: each for each in inspect.type_info(Command).types}
EVENTS = {each.tag: each for each in inspect.type_info(Event).types}


def commands(*without: str) -> st.SearchStrategy[bytes]:
    """Every command, with values that are extreme, as it is sent."""
    one = st.one_of([values(kind) for tag, kind in KINDS.items() if tag not in without])
    return one.map(lambda made: framed(msgspec.msgpack.encode(made)))


def events() -> st.SearchStrategy[bytes]:
    one = st.one_of([values(kind) for kind in EVENTS.values()])
    return one.map(lambda made: framed(msgspec.msgpack.encode(made)))


def tagged(tag: bytes, field: bytes, value: bytes) -> bytes:
    return b"\x82\xa4type" + bytes([0xA0 + len(tag)]) + tag + bytes([0xA0 + len(field)]) + field + value


def texts(tag: bytes = b"pause", field: bytes = b"reason") -> list[bytes]:
    """Whole messages that no decoder can make a record of. tag, field: of a record with text in it."""
    return [
        framed(b""),
        framed(b"\xc1\xc1\xc1"),
        framed(tagged(tag, field, b"\xa3\xff\xfe\xfd")),  # no UTF-8
        framed(tagged(tag, field, b"\xa3\xed\xa0\x80")),  # half of a pair
        framed(b"\x91" * 100_000),
        framed(tagged(tag, b"else", b"\x91" * 100_000)),
        framed(tagged(tag, field, b"\xdd\xff\xff\xff\xff")),
        framed(tagged(tag, b"else", b"\xdf\xff\xff\xff\xff" * 50)),
        framed(tagged(b"set-watches", b"texts", b"\xdd\x7f\xff\xff\xff")),
        framed(b"\xdf\xff\xff\xff\xff"),
        framed(b"\xc9\xff\xff\xff\xff\x01"),
        framed(b"\x81\xa4type\xcf" + b"\xff" * 8),
        framed(b"\x81\xa4type\xa4what"),
        framed(b"\x90"),
        struct.pack("<I", 0xFFFFFFFF),
        struct.pack("<I", connection.MAX_MESSAGE_BYTES + 1) + b"x" * 100,
        struct.pack("<I", 1000) + b"cut short",
    ]


atoms = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(max_size=9)
names = st.text(max_size=9) | st.just("type")
wrong_shapes = st.recursive(
    atoms | names, lambda part: st.lists(part, max_size=4) | st.dictionaries(names, part, max_size=4), max_leaves=12
).map(lambda made: framed(msgspec.msgpack.encode(made)))

messages = st.one_of(
    st.binary(max_size=200),
    st.binary(max_size=200).map(framed),
    st.sampled_from(texts()),
    wrong_shapes,
    commands("quit", "take-control"),
    commands("quit", "take-control").map(lambda made: made[: len(made) // 2]),
)
"""What a client may come up with that has no right to command."""
