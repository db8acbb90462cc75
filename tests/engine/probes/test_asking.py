"""A question is told how far it has come, can be given up, and leaves the text as it would have been."""

import json
import os
import signal
import subprocess
import sys

import pytest
import small
from asking import fan_ask
from msgspec.structs import replace
from worker_engine import ENDLESS, Engine

from tui_entropy.core.errors import UserError
from tui_entropy.engine.probes.registry import options_of, probe_of
from tui_entropy.records.commands import Load
from tui_entropy.records.events import Ended, Ready, Started
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.probes.ask import AskProbe, CancelProbe, ProbeAnswer, ProbeProgress
from tui_entropy.records.step import Step
from tui_entropy.trace.reader import Trace

LONG = fan_ask(1, 12, n=64, tokens=128)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small.saved(tmp_path_factory.mktemp("asked") / "model")


def test_a_question_that_takes_long_tells_how_far_it_is_and_is_given_up_for_the_asking(model, tmp_path):
    engine = Engine(tmp_path)
    try:
        engine.end.send(Load(ModelSpec(str(model))))
        engine.until(Ready)
        engine.end.send(replace(ENDLESS, max_tokens=5))
        engine.until(Ended)
        written = [event.token_id for event in engine.heard if isinstance(event, Step)]
        engine.end.send(LONG)
        told = engine.until(ProbeProgress)
        assert (told.name, told.run, told.position) == (LONG.name, 1, 12) and 0 < told.done < told.total
        engine.end.send(CancelProbe())
        answer = engine.until(ProbeAnswer)
        assert answer.unavailable == "given up" and not answer.panels and not answer.record
        engine.end.send(AskProbe("lens", 1, 12))  # and it answers what is asked next
        assert engine.until(ProbeAnswer).panels
        engine.end.send(replace(ENDLESS, max_tokens=5))
        engine.until(Started)
        engine.until(Ended)
        assert [event.token_id for event in engine.heard if isinstance(event, Step)] == written * 2
    finally:
        engine.close()


def interrupted(model, trace):
    """The exit code of a command that is interrupted while it asks, and what it says; 0 where it was done before."""
    words = ["probe", "continuations", "--option", "n=64", "--option", "tokens=128"]
    more = ["--model", str(model), "--raw", "-p", "hello", "--trace", str(trace)]
    command = [sys.executable, "-m", "tui_entropy", *words, *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    while "asking continuations" not in (line := process.stderr.readline()):
        assert line, "it never asked"
    os.kill(process.pid, signal.SIGINT)
    out, said = process.communicate(timeout=60)
    return process.returncode, out, said


def test_ctrl_c_ends_the_command_with_130_and_the_record_says_so(model, tmp_path):
    for attempt in range(4):  # a machine that does other work may let it be done before it is interrupted
        trace = tmp_path / f"{attempt}.tui"
        code, out, said = interrupted(model, trace)
        if code:
            break
    assert code == 130 and out == "" and "Traceback" not in said
    ends = [event for _, _, event in Trace.open(trace).events() if isinstance(event, Ended)]
    assert [end.reason for end in ends] == ["stopped by ctrl-C"]


def test_what_cannot_be_asked_is_one_sentence(model, commands):
    here = ["--model", str(model), "--raw", "-p", "hello"]
    for words, code, sentence in (
        (
            ["nope"],
            3,
            "there is no probe 'nope': take one of attention, attention-rollout, attention-score, attribution, "
            "continuations, ensemble, flow, head-patterns, lens, logit-attribution, nearest-tokens, patching, step, "
            "visit\n",
        ),
        (["lens", "--option", "k=0"], 2, "--option: k is between 1 and 20\n"),
        (["lens", "--option", "q=1"], 2, "--option: 'q=1' sets nothing of lens: write k=5 before=7 "),
        (["lens", "--position", "100000", *here], 3, "run 1 has no token at position 100000 that"),
    ):
        done = commands.run("probe", *words)
        last = done.err.decode().splitlines(keepends=True)[-1]
        assert done.code == code and last.startswith(sentence) and done.out == b"", (words, done)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("lens", {"at": "x"}, "at of lens cannot be 'x': it is one of attention, block, feed-forward, intermediate"),
        ("lens", {"k": 99}, "k of lens cannot be 99: it is between 1 and 20"),
        ("attention", {"layer": "x"}, "layer of attention cannot be 'x': it is at least 1"),
    ],
)
def test_a_wrong_value_from_a_script_is_told_with_what_is_wanted(name, options, sentence):
    with pytest.raises(UserError, match=sentence):
        options_of(probe_of(name), options)


def test_a_token_of_the_prompt_that_no_step_wrote_has_no_step_and_the_answer_says_so(model, commands):
    words = ["probe", "step", "--model", str(model), "--raw", "-p", "hello", "--position", "2", "--json"]
    done = commands.run(*words)
    assert done.code == 0 and "one of the prompt's" in json.loads(done.out)["unavailable"]
