"""Control vectors from files steer as plain hooks do."""

from __future__ import annotations

import re

import numpy as np
import promises
import pytest
from inspector_screen import quit_after
from promises import assert_right, recorded
from tried_commands import MODEL, runs

pytestmark = [pytest.mark.real, pytest.mark.pty]


@runs("tui-entropy --vector happy.gguf:0.8 --vector terse.safetensors:-1.2:10-20")
def test_vectors_from_files_steer_as_plain_hooks_do(shell, vector_files, line):
    with shell.screen(line) as terminal:
        quit_after(terminal, 4)
    pushes = {block: np.float32(0.8) * vector for block, vector in vector_files["happy"].items()}
    for block, vector in vector_files["terse"].items():
        if 10 <= block <= 20:
            pushes[block] = pushes.get(block, 0) - np.float32(1.2) * vector
    assert_right(recorded(shell.newest), MODEL, {0: pushes})


@runs(
    "tui-entropy --vector happy.gguf:0.8@1=0,20=1,60=0.2",
    "tui-entropy --vector 'terse.safetensors:-1.2 if entropy > 3 bits'",
)
def test_vectors_that_change_along_the_text_steer_as_plain_hooks_do(shell, vector_files, line):
    with shell.screen(line) as terminal:
        terminal.wait_for(re.compile(r"terse -1\.2 if entropy > 3 bits|happy \+\d\.\d~"), promises.SECONDS)
        quit_after(terminal, 6)
    session = recorded(shell.newest)
    above = [False, *(session.numbers[:, 0] > 3 * np.log(2))]
    pushes = {}
    for step in range(len(session.tokens)):
        strength = 0.8 * np.interp(step + 1, [1, 20, 60], [0, 1, 0.2]) if "happy" in line else -1.2 * above[step]
        directions = vector_files["happy" if "happy" in line else "terse"]
        pushes[step] = {block: np.float32(strength) * vector for block, vector in directions.items()}
    assert_right(session, MODEL, pushes)
