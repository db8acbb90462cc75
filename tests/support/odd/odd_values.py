"""What nobody expects in the place of a value: of another kind, too large, hostile; and files with a byte changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

HOSTILE = "\x1b]0;owned\x07\x9b31m\u202e\u2028\x7f\nforged\r"
"""What a terminal would obey, what turns the text around it, what breaks a line."""

odd_numbers = st.sampled_from([0, -1, -2, 1, 3, 7, 33, 2**31, 10**6, 10**9, 10**20, 10**30, 0.5, -0.0, 1e300, 1e-300])
odd_texts = st.sampled_from(
    ["", " ", "x", "7", "nan", HOSTILE, "x" * 3000, "{{", "{% for %}", "\ud800", "../..", "é🙂"]
)
odd_json = st.one_of(
    odd_numbers,
    odd_texts,
    st.sampled_from([None, True, False, [], {}, [None], [[1]], {"a": {}}, float("nan"), float("inf")]),
    st.lists(odd_numbers | odd_texts, max_size=3),
    st.dictionaries(odd_texts, odd_numbers | odd_texts, max_size=2),
)


def places(value: Any, path: tuple[str | int, ...] = (), deepest: int = 4) -> list[tuple[str | int, ...]]:
    """The paths of all that a JSON value holds, of long lists and objects the first of it."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [path] if path else []
    if deepest:
        for key, one in list(inside)[:40]:
            found += places(one, (*path, key), deepest - 1)
    return found


def changed(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    """A copy with another value at that path."""
    made = json.loads(json.dumps(value))
    at = made
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = new
    return made


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


@st.composite
def damaged(draw: st.DrawFn, data: bytes, head: int | None = None) -> bytes:
    """A file that is cut off, or in which a few bytes are others. head: where most of them are."""
    made, end = bytearray(data), min(head or len(data), len(data))
    match draw(st.integers(0, 5)):
        case 0:
            return bytes(made[: draw(st.integers(0, end))])
        case 1:
            at = draw(st.integers(0, end))
            return bytes(made[:at] + draw(st.binary(min_size=1, max_size=40)) + made[at:])
        case _:
            for _ in range(draw(st.integers(1, 6))):
                made[draw(st.integers(0, end - 1))] = draw(st.integers(0, 255))
            return bytes(made)


@st.composite
def odd_object(draw: st.DrawFn, value: dict[str, Any]) -> bytes:
    """A JSON file in which one value is odd, or a key more, or which is none."""
    match draw(st.integers(0, 9)):
        case 0:
            return draw(damaged(encoded(value)))
        case 1:
            return draw(
                st.sampled_from([b"", b"null", b"[]", b"5", b"{", b"\xff\xfe\0", b"\xef\xbb\xbf{}", b"NaN", b"{}"])
                | st.sampled_from([b'{"a":' * 3000 + b"1" + b"}" * 3000, b'{"a":' + b"9" * 5000 + b"}"])
            )
        case 2:
            return encoded(value | {draw(odd_texts): draw(odd_json)})
    return encoded(changed(value, draw(st.sampled_from(places(value))), draw(odd_json)))


def is_a_sentence(text: str) -> bool:
    """One line, of no control character, no longer than a person reads."""
    return 0 < len(text) < 4000 and text.isprintable()


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
