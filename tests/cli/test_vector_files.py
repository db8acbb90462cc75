"""Control vectors from files, as a user gives them to the command: text and numbers are those of plain hooks on a
plain transformers model."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import promises
import pytest
import small
from flat_vectors import WIDTH, Directions, flat, write_all
from preloaded import Preloaded
from promises import Shell, assert_right, recorded

from tui_entropy.core import paths

pytestmark = [pytest.mark.real, pytest.mark.pty]

MODEL = paths.models() / "smollm2"


@pytest.fixture(scope="module")
def files() -> dict[str, Directions]:
    return {}


@pytest.fixture(scope="module")
def shell(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, Directions], preloaded: Preloaded
) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("vectors")
    files |= write_all(folder)
    made = promises.shell(folder, tmp_path_factory.mktemp("s"), preloaded)
    yield made
    made.run("tui-entropy stop --all")


CASES = {
    "repeng": ("--vector happy.gguf:1", [("happy", 1.0, None)]),
    "llama.cpp": ("--vector dry.gguf:1.5", [("dry", 1.5, None)]),
    "safetensors, the other way, some blocks": ("--vector terse.safetensors:-0.9:10-20", [("terse", -0.9, (10, 20))]),
    "two at once": (
        "--vector happy.gguf:.5 --vector terse.safetensors:0.5",
        [("happy", 0.5, None), ("terse", 0.5, None)],
    ),
    "two of one name": (
        "--vector happy.gguf:1 --vector other/happy.safetensors:1.2",
        [("happy", 1.0, None), ("other", 1.2, None)],
    ),
    "one block": ("--vector terse.safetensors:3:1-1", [("terse", 3.0, (1, 1))]),
}


def together(files: dict[str, Directions], parts: list[tuple[str, float, tuple[int, int] | None]]) -> Directions:
    """What they add up to, block by block."""
    total: Directions = {}
    for name, strength, blocks in parts:
        for block, row in files[name].items():
            if blocks is None or blocks[0] <= block <= blocks[1]:
                total[block] = total.get(block, np.zeros(WIDTH, np.float32)) + np.float32(strength) * row
    return total


@pytest.mark.parametrize("case", CASES)
def test_a_vector_from_a_file_steers_as_a_plain_hook_does(
    shell: Shell, files: dict[str, Directions], case: str
) -> None:
    options, parts = CASES[case]
    name = re.sub(r"\W+", "-", case)
    line = f"tui-entropy run --headless --temperature 0 --max-tokens 8 -p 'How are you?' --trace {name}.tui {options}"
    done = shell.run(line)
    assert done.code == 0, done.err
    session = recorded(shell.folder / f"{name}.tui")
    pushes = together(files, parts)
    assert_right(session, MODEL, {0: pushes})
    greedy = promises.expected(MODEL, session.prompt, session.tokens, {0: pushes})[:, 3]
    assert (greedy == 1).all()  # the text is the plain model's own, so steered
    unsteered = promises.expected(MODEL, session.prompt, session.tokens)
    assert abs(unsteered[:, 0] - session.numbers[:, 0]).max() > 0.01  # and another than it would be
    (started,) = [event for kind, event in session.events if kind == "started"]
    named = [one["name"] for one in started["vectors"] if one["on"]]
    assert len(set(named)) == len(named) == len(parts)


def test_a_strength_that_changes_and_a_condition_steer_as_plain_hooks_do(
    shell: Shell, files: dict[str, Directions]
) -> None:
    line = (
        "tui-entropy run --headless --temperature 0 --max-tokens 10 -p 'How are you?' --trace ramp.tui "
        "--vector happy.gguf:2@1=0,5=1,9=-0.5 --vector 'terse.safetensors:-0.9 if entropy > 1 bits'"
    )
    done = shell.run(line)
    assert done.code == 0, done.err
    session = recorded(shell.folder / "ramp.tui")
    above = [False, *(session.numbers[:-1, 0] > np.log(2))]
    assert {*above} == {True, False}
    pushes = {}
    for step, terse in enumerate(above):
        strength = 2 * float(np.interp(step + 1, [1, 5, 9], [0, 1, -0.5]))
        pushes[step] = together(files, [("happy", strength, None), ("terse", -0.9 * terse, None)])
    assert_right(session, MODEL, pushes)
    (started,) = [event for kind, event in session.events if kind == "started"]
    told = [(one["schedule"], one["condition"]) for one in started["vectors"] if one["on"]]
    assert told == [([[1, 0.0], [5, 1.0], [9, -0.5]], ""), ([], "entropy > 1 bits")]


def test_toggled_while_it_writes(shell: Shell, files: dict[str, Directions]) -> None:
    """From the step on that the recording names: what is in the cache by then stays as it was computed."""
    line = "tui-entropy --vector happy.gguf:1 --temperature 0 --trace toggled.tui -p 'Tell me about the sea.'"
    with shell.screen(line) as terminal:
        terminal.wait_for(lambda text: tokens(text) >= 3, promises.SECONDS)
        for _ in range(3):
            goal = tokens(terminal.text) + 3
            terminal.press("4")  # behind the three that are built in
            terminal.wait_for(lambda text, goal=goal: tokens(text) >= goal, 60)
        terminal.press("q")
        assert terminal.wait(60) == 0
    session = recorded(shell.folder / "toggled.tui")
    pushes: dict[int, Directions] = {0: together(files, [("happy", 1.0, None)])}
    for kind, event in session.events:
        if kind == "vectors" and event["run"]:
            on = any(vector["on"] for vector in event["vectors"])
            pushes[event["index"]] = pushes[0] if on else {}
    assert len(pushes) == 4
    assert_right(session, MODEL, pushes)


def tokens(text: str) -> int:
    """Written so far: the step that is shown last."""
    found = re.findall(r"step (\d+)", text)
    return int(found[-1]) if found else 0


@pytest.mark.parametrize("size", [1, 2, 9])
def test_so_many_files_of_one_name_are_told_apart(tmp_path: Path, size: int) -> None:
    """In this process, on a small model."""
    from tui_entropy.engine.decoding.instruments import open_instruments
    from tui_entropy.engine.session.session import Session
    from tui_entropy.records.settings import Vector

    flat(tmp_path / "v.safetensors")
    paths = []
    for n in range(size):
        (tmp_path / str(n)).mkdir()
        paths.append(shutil.copy(tmp_path / "v.safetensors", tmp_path / str(n)))
    loaded, events = small.loaded(), []
    with open_instruments(loaded) as instruments:
        session = Session(loaded, instruments, events.append)
        for path in paths:
            session.set_vector(Vector("v", str(path), on=True))
    assert [v.name for v in session.state.vectors] == ["v", *(f"v {n}" for n in range(2, size + 1))]
    assert events[-1].vectors == session.state.vectors  # a screen that hears it has them switched on, as they are
