"""A source in a file of its own is found at work: through the socket, in the record, in files and on the screen."""

import csv
import io
import json
import math
import sys

import exports
import numpy
import pytest
import toy_source
from inspectors import screen_text, settled, until
from msgspec.structs import replace
from watchers import Watcher

from tui_entropy.export import csv as csv_
from tui_entropy.export import npz
from tui_entropy.metrics.registry import BY_NAME
from tui_entropy.records.commands import Advance, Branch, Continue, Load, Pause, SetKnobs, Stop, Write
from tui_entropy.records.events import Continued, Ended, Failed, Paused, Ready, Refused
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.source import ABILITIES, inability
from tui_entropy.records.step import Step
from tui_entropy.trace import jsonl
from tui_entropy.trace.playback import Playback
from tui_entropy.trace.reader import Trace
from tui_entropy.transport import discovery
from tui_entropy.ui.app.app import InspectorApp
from tui_entropy.ui.panes.hints import useful_keys

TOY = (sys.executable, toy_source.__file__)
WRITE = Write("abc", None, False, 30, Knobs())
BETWEEN = 1.0, math.log(26)


@pytest.fixture
def screen(own_folders):
    """A screen of the toy, in a process that is started with a load command."""
    ended = []

    def make(load: Load) -> Watcher:
        process = discovery.start(list(TOY))
        ended.append(process)
        watcher = Watcher(process.socket)
        watcher.send(load)
        watcher.engine = process.process
        return watcher

    yield make
    for each in ended:
        each.process.kill()
        each.process.wait()


def test_it_writes_pauses_and_ends_as_whoever_is_in_control_says(screen):
    watcher = screen(Load(ModelSpec("toy"), keep=60, write=WRITE))
    ready = watcher.until(Ready)
    assert ready.card.name == "Alphabet" and ready.capabilities == toy_source.Alphabet.capabilities
    watcher.until(Step)
    watcher.send(Pause())
    watcher.until(Paused)
    n = len(watcher.steps)
    assert watcher.listen(0.2) == [] and watcher.log.state == "paused"
    watcher.send(Continue())
    watcher.until(Continued)
    assert watcher.until(Ended).reason == "token limit"
    assert n < len(watcher.steps) == 30 and watcher.log.steps.texts == [*map(chr, range(97, 123)), *"abcd"]
    watcher.send(WRITE, Stop())
    assert watcher.until(Ended).reason == "stopped"


@pytest.mark.parametrize(
    "command", [SetKnobs(Knobs()), Branch(1, 0), Advance(), Advance(3)], ids=lambda one: type(one).__name__
)
def test_what_it_cannot_be_told_is_refused_in_a_sentence_and_it_writes_on(screen, command):
    watcher = screen(Load(ModelSpec("toy"), keep=60, write=replace(WRITE, max_tokens=10_000)))
    watcher.until(Step)
    watcher.send(command)
    refused = watcher.until(Refused).sentence
    assert refused in {inability(name) for name in ABILITIES} and not refused.endswith(("begin another text",))
    watcher.until(Step)


def test_one_that_does_not_come_up_says_why(screen):
    failed = screen(Load(ModelSpec("none"), keep=60)).until(Failed)
    assert failed.fatal and failed.sentence == "there is no such alphabet: take another name"


def test_its_record_and_json_lines_have_what_is_known_and_no_more(screen, tmp_path):
    path = tmp_path / "toy.tui"
    watcher = screen(Load(ModelSpec("toy"), trace=str(path), write=WRITE))
    watcher.until(Ended)
    watcher.close()
    watcher.engine.wait(20)
    trace = Trace.open(path)
    assert Playback(trace, first=None).log.capabilities == trace.log().capabilities == watcher.log.capabilities
    steps = list(trace.steps(1))
    assert not trace.damage and len(steps) == 30
    assert trace.log().steps.bounds(BY_NAME["entropy"], 0, 30) == dict.fromkeys(range(30), BETWEEN)
    written = list(csv.DictReader(io.StringIO(exports.exported(csv_.write, path).decode("utf-8-sig"))))[3:]
    assert [json.loads(row["bounds"]) for row in written] == [{"entropy_nats": list(BETWEEN)}] * 30
    arrays = numpy.load(io.BytesIO(exports.exported(npz.write, path)))
    assert arrays["entropy_nats_bounds"].tolist() == [list(BETWEEN)] * 30
    assert [name for name in arrays if name.endswith("_bounds")] == ["entropy_nats_bounds"]
    for step in steps:
        line = json.loads(jsonl.step(step))
        assert line["bounds"] == {"entropy_nats": list(BETWEEN)} and line["surprisal_nats"] == 1.0 + step.index % 3
        assert line["entropy_nats"] is line["final_prob"] is line["perplexity"] is line["rank"] is None


async def test_the_screen_shows_it_and_offers_only_the_keys_that_it_can_be_told(own_folders):
    app = InspectorApp(ModelSpec("toy"), replace(WRITE, max_tokens=10_000), engine_command=TOY)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: len(app.frame.log.steps) > 5)
        await pilot.press("space")
        await until(pilot, lambda: app.frame.log.state == "paused")
        await settled(app, pilot)
        offered = {key.id for key in useful_keys(app.frame)}
        assert {"pause", "prompt", "numbers"} <= offered
        assert not offered & {"step", "take", "ban", "force", "sentence", "temperature.down", "vector.1"}
        before = app.frame.knobs
        await pilot.press("T")
        assert app.frame.notice == "this source cannot have the knobs of its sampling turned"
        assert app.frame.knobs == before
        await pilot.press("N")
        await settled(app, pilot)
        shown = screen_text(app)
        assert "1.44…4.7 bits" in shown and "abcdef" not in shown and " rank " not in shown
        await pilot.press("escape", "space")
        n = len(app.frame.log.steps)
        await until(pilot, lambda: len(app.frame.log.steps) > n)
        assert "abcdef" in screen_text(app)
