"""Fields keep, in messages and traces, the names that they had when the first trace was written."""

import made_lanes
import msgspec
import pytest
from scripted import started, step

from tui_entropy.records.events import Started
from tui_entropy.records.step import Shadow, Step


@pytest.mark.parametrize(
    ("record", "kind", "names", "gone"),
    [
        (started(), Started, {"pieces"}, {"prompt_tokens"}),
        (step(0), Step, {"data"}, {"token_bytes"}),
        (made_lanes.shadow(0), Shadow, {"top_data", "would_data"}, {"top_bytes", "would_bytes"}),
    ],
)
def test_what_was_written_before_is_read(record, kind, names, gone) -> None:
    message = msgspec.msgpack.decode(msgspec.msgpack.encode(record))
    assert names <= message.keys() and not gone & message.keys()
    assert msgspec.convert(message, kind) == record
