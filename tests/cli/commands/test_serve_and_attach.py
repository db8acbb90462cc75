"""Engines that stay: served, listed, attached to, stopped."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import promises
import pytest
import small
from flat_vectors import flat
from inspector_screen import shown, written
from terminal import Terminal
from tried_commands import EVERY_KNOB, runs

pytestmark = [pytest.mark.real, pytest.mark.pty]


@runs("tui-entropy attach --list")
def test_engines_are_listed(shell, engine, line):
    done = shell.run(line)
    assert done.code == 0 and engine in done.out and "smollm2" in done.out and ".sock" in done.err


def attached(terminal: Terminal) -> None:
    """It is there, answers a key, and is left with the engine running."""
    terminal.wait_for(lambda text: written(text) > 0, 60)
    terminal.press("u")
    terminal.wait_for("nats")
    terminal.press("ctrl+d")
    assert terminal.wait(60) == 0


@runs(
    "tui-entropy attach",
    "tui-entropy attach --ssh gpu-03",
    "tui-entropy attach --ssh gpu-03 --remote tui-entropy",
    "tui-entropy attach --theme light --color 16 --ascii --no-mouse --no-diff",
    "tui-entropy attach --mouse --diff",
)
def test_attaching(shell, engine, line):
    """ssh is a script that runs what it is given here."""
    script = shell.folder / "bin" / "ssh"
    script.parent.mkdir(exist_ok=True)
    script.write_text('#!/bin/sh\n[ "$1" = -t ] && [ "$2" = -- ] && [ "$3" = gpu-03 ] && exec sh -c "$4"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    with shell.screen(line) as terminal:
        attached(terminal)


@runs("tui-entropy attach --socket /tmp/e.sock")
def test_attaching_to_a_forwarded_socket(shell, engine, line):
    """As `ssh -L` forwards it: another socket on this machine that leads to the engine's."""
    (there,) = Path(shell.env["XDG_RUNTIME_DIR"]).rglob(f"{engine}.sock")
    here = there.with_name("e")
    os.link(there, here)
    with shell.screen(line.replace("/tmp/e.sock", str(here))) as terminal:
        attached(terminal)


@runs("tui-entropy run --demo", "tui-entropy attach --demo")
def test_a_demo_tells_the_key_that_was_pressed(shell, engine, line):
    with shell.screen(line) as terminal:
        terminal.wait_for(lambda text: shown(text) > 0, promises.SECONDS)
        assert "context" not in terminal.text
        terminal.press("u")
        terminal.wait_for(" u   bits or nats")
        terminal.press("q" if " run " in line else "ctrl+d")
        assert terminal.wait(60) == 0


SERVE = (
    "tui-entropy serve --model ./tiny --products rows --device cpu --dtype float32 --no-trust-remote-code --no-graph "
    "--raw --prompt hello --max-tokens 5 --vector flat.safetensors:1 --break 'step > 90' --watch a "
    "--trace served.tui --record-attention all --ablate 2.1=1 "
    "--keep 30m --on-leave pause --kept-cache 64MiB "
    + " ".join(part for part in EVERY_KNOB.split("-p Hello")[0].split("--prompt-scores ")[1:])
)


SERVE = (
    "tui-entropy serve --model ./tiny --products rows --device cpu --dtype float32 --no-trust-remote-code --no-graph "
    "--raw --prompt hello --max-tokens 5 --vector flat.safetensors:1 --break 'step > 90' --watch a "
    "--trace served.tui --record-attention all --ablate 2.1=1 "
    "--keep 30m --on-leave pause --kept-cache 64MiB "
    + " ".join(part for part in EVERY_KNOB.split("-p Hello")[0].split("--prompt-scores ")[1:])
)


@runs(SERVE, "tui-entropy serve --model ./tiny --no-trace --trust-remote-code --graph --chat --system x -p x")
def test_serving_takes_every_option(shell, line):
    if not (shell.folder / "tiny").is_dir():
        small.saved(shell.folder / "tiny")
    flat(shell.folder / "flat.safetensors")
    line = line if "--system" not in line else line.replace("--chat", "--raw")  # the small model has no template
    done = shell.run(line)
    assert done.code == 0, done.err
    assert shell.run(f"tui-entropy stop {done.out.strip()}").code == 0
    assert ("served.tui" in line) == (shell.folder / "served.tui").exists() or "--no-trace" in line


@runs("tui-entropy stop", "tui-entropy stop --all")
def test_engines_are_stopped(shell, engine, line):
    """After every test that attaches; without an engine `stop` says so, and `--all` has nothing to do."""
    done = shell.run(line)
    assert (done.code, "has ended" in done.err) in {(0, True), (0, False)}
    assert engine not in shell.run("tui-entropy attach --list").out
