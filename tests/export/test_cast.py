"""A film of a run, as asciinema plays it."""

import json

import exports
import pyte

from tui_entropy.export import cast


def test_the_last_picture_of_the_film_shows_the_whole_text(tmp_path):
    head, *played = exports.exported(cast.write, exports.trace(tmp_path / "run.tui")).decode().splitlines()
    header = json.loads(head)
    assert (header["version"], header["width"], header["height"]) == (2, *cast.SIZE)
    screen = pyte.Screen(*cast.SIZE)
    stream = pyte.Stream(screen)
    moments = [json.loads(line) for line in played]
    for _, kind, data in moments:
        if kind == "o":
            stream.feed(data)
    assert [moment for moment, *_ in moments] == sorted(moment for moment, *_ in moments)
    shown = "\n".join(screen.display)
    assert "The capital is" in shown and "=1+1" in shown and "step 6" in shown
