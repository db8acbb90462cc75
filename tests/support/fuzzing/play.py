"""Actions played on the program in a terminal of its own, and what must hold after each of them."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from places import FAKE_ENGINE
from recordings import recorded
from terminal import Terminal
from watchers import LOAD, Watcher, wanted

from fuzzing.actions import Action, code
from fuzzing.scanner import Scanner
from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import Branch, Pause
from tui_entropy.records.events import Failed, Started
from tui_entropy.trace.reader import Trace
from tui_entropy.transport import client, discovery

PROGRAM = [sys.executable, "-m", "tui_entropy"]
FAKE = [sys.executable, str(FAKE_ENGINE), "--layers", "6", "--heads", "4", "--odd"]
KINDS = ("fake", "real", "replay", "watching")
"""What the screen shows: a scripted engine's text, the default model's, a recording, or somebody else's engine."""
SILENCE = 0.02
"""Seconds after which a program that sent nothing is asked for a repaint by another size of its terminal."""
STARTING = 120.0
"""Seconds that a busy machine may take to start the program."""
LEAVING = 30.0
"""Seconds that it may take to be gone, engine and all."""
TRIES = 4
"""How often it is told to go meanwhile."""


class Fault(Exception):
    """Something that must hold did not."""


@dataclass
class Answers:
    """How long actions waited for something on screen."""

    seconds: list[float] = field(default_factory=list)

    def share(self, part: float) -> float:
        return sorted(self.seconds)[int(part * (len(self.seconds) - 1))] if self.seconds else 0.0


@dataclass(frozen=True)
class Case:
    """A session: what is opened, how large, how far it is waited for before the first action, and the actions."""

    kind: str
    size: tuple[int, int]
    awaited: str
    """'paint' or 'text'."""
    actions: tuple[Action, ...]

    @property
    def command(self) -> str:
        """Plays it again."""
        width, height = self.size
        options = f"--on {self.kind} --size {width}x{height} --await {self.awaited}"
        return f"scripts/fuzz {options} --play {shlex.join(map(str, self.actions))}"


def play(case: Case, bound: float, answers: Answers | None = None) -> int:
    """Play it, and see to it that everything is left as it was. How many actions there were until the program was
    left. bound: seconds that an answer may take. Raises Fault."""
    answers = answers or Answers()
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        try:
            with _opened(case, Path(folder)) as terminal:
                player = Player(terminal, case, bound, answers, Path(folder))
                player.begin()
                try:
                    n = player.all()
                except Fault:
                    player.crashed()
                    raise
                player.end()
            _nothing_left(Path(folder))
            if case.kind != "replay":
                _recorded(Path(folder))
        finally:
            for process in _of(Path(folder)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
    return n


class Player:
    """Sits at the terminal."""

    def __init__(self, terminal: Terminal, case: Case, bound: float, answers: Answers, folder: Path) -> None:
        self.terminal, self.case, self.bound, self.answers, self.folder = terminal, case, bound, answers, folder
        self.scanner, self._scanned = Scanner(), 0
        self._taller = False

    def begin(self) -> None:
        self._wait(lambda: self.terminal.drawing, STARTING, "nothing was painted")
        if self.case.awaited == "text":
            try:
                self.terminal.wait_for(lambda text: " tok/s" in text or "context " in text, STARTING)
            except AssertionError as never:
                raise Fault(f"no text was shown: {never}") from None

    def all(self) -> int:
        for n, action in enumerate(self.case.actions):
            if not self._act(action):
                return n + 1
            self._look(action)
        return len(self.case.actions)

    def _act(self, action: Action) -> bool:
        """Whether the program is still there afterwards."""
        terminal = self.terminal
        before, at = terminal.received, time.perf_counter()
        if action.kind == "wait":
            time.sleep(float(action.argument))
            return not self._gone
        if action.kind == "kill":
            self._kill(action.argument)
            return not self._gone
        if action.kind == "size":
            width, height = action.argument.split("x")
            terminal.resize(int(width), int(height))
            self._taller = False
        elif not terminal.send(action.data):
            raise Fault(f"{action} was not read: the program takes in nothing any more")
        asked = False
        while terminal.received == before:
            waited = time.perf_counter() - at
            if self._gone:
                return False
            if waited > self.bound:
                raise Fault(f"{action} had no answer in {self.bound:g} s\n{terminal.text}")
            if waited > SILENCE and not asked:
                asked = True
                self._nudge()
            time.sleep(0.001)
        self.answers.seconds.append(time.perf_counter() - at)
        return not self._gone

    def _nudge(self) -> None:
        """A row more or less, which every program has to answer: not every key changes something."""
        width, height = self.terminal.size
        self._taller = not self._taller
        self.terminal.resize(width, height + (1 if self._taller else -1))

    @property
    def _gone(self) -> bool:
        return self.terminal.process.poll() is not None or not self.terminal.drawing

    def _look(self, action: Action) -> None:
        """At what was sent so far."""
        while self._scanned < len(self.terminal.chunks):
            data = self.terminal.chunks[self._scanned].data
            self._scanned += 1
            if faults := self.scanner.faults(data):
                raise Fault(f"after {action} raw bytes reached the terminal: {' and '.join(faults[:3])}")

    def _kill(self, name: str) -> None:
        for engine in psutil.Process(self.terminal.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                engine.send_signal(getattr(signal, f"SIG{name}"))

    def end(self) -> None:
        """Quit, where that did not happen yet. The screen must be gone, the terminal as it was."""
        terminal = self.terminal
        for _ in range(TRIES):  # what is pressed while one screen makes way for another is dropped
            if not self._gone:
                terminal.send(code("escape"))
                time.sleep(0.2)
                terminal.send(code("ctrl+q"))
            with contextlib.suppress(subprocess.TimeoutExpired):
                terminal.process.wait(LEAVING / TRIES)
                break
        self._wait(lambda: terminal.process.poll() is not None, 1.0, "ctrl+q does not end it")
        status = terminal.wait(LEAVING)
        self.crashed()
        if status:
            raise Fault(f"it ended with {status}:\n{self._last_output}")
        self._look(Action("keys", "ctrl+q"))
        if left := terminal.left_changed():
            raise Fault(f"the terminal was left with {', '.join(sorted(left))}")

    def crashed(self, patience: float = 3.0) -> None:
        """Raises Fault where the program failed, or is about to: it leaves a report."""
        deadline = time.monotonic() + patience
        while not self._gone and time.monotonic() < deadline:
            time.sleep(0.02)
        if self._gone:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.terminal.wait(LEAVING)
        for report in self.folder.glob("**/failure-*.txt"):
            raise Fault(f"it failed: {self._last_output}\n{report.read_text()[-4000:]}")
        if "Traceback" in self._last_output:
            raise Fault(f"it ended in a traceback:\n{self._last_output}")

    @property
    def _last_output(self) -> str:
        """What is told after the alternate screen, without its colours."""
        output = b"".join(chunk.data for chunk in self.terminal.chunks)
        text = output.rpartition(b"\x1b[?1049l")[2].decode("utf-8", "replace")
        return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", text)[-6000:]

    def _wait(self, holds, seconds: float, otherwise: str) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                raise Fault(f"{otherwise} in {seconds:g} s:\n{self.terminal.text}")
            if self.terminal.process.poll() is not None:
                return
            time.sleep(0.005)


# --- What is opened --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _opened(case: Case, folder: Path) -> Iterator[Terminal]:
    env = {name: str(folder / name) for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME")}
    env |= {"XDG_RUNTIME_DIR": str(folder), "TUI_ENTROPY_KEEP": "0", "OMP_WAIT_POLICY": "PASSIVE"}
    write = ["run", "--max-tokens", "400", "--prompt", "Tell me about the sea.", "--seed", "7"]
    command, activate = [*PROGRAM, *write], contextlib.nullcontext()
    match case.kind:
        case "fake":
            env["TUI_ENTROPY_ENGINE"] = shlex.join([*FAKE, "--rate", "60"])
            command += ["--model", "toy"]
        case "replay":
            command = [*PROGRAM, "replay", str(recorded(folder / "recorded.tui", layers=6, heads=4))]
        case "watching":
            env["TUI_ENTROPY_ENGINE"] = shlex.join([*FAKE, "--rate", "60"])
            activate = _controlled(folder, env)
            command = [*PROGRAM, "attach"]
    with activate, Terminal(command, *case.size, env=env) as terminal:
        yield terminal


@contextlib.contextmanager
def _controlled(folder: Path, env: dict[str, str]) -> Iterator[None]:
    """An engine that somebody else commands: texts that begin, branch off and pause while the screen looks on."""
    before = {name: os.environ.get(name) for name in env}
    os.environ.update(env)
    try:
        client.serve([*FAKE, "--rate", "60"], LOAD, wanted(300), lambda _: None)
        (engine,) = discovery.running()
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    watcher = Watcher(engine.socket)
    watcher.until(Started)
    try:
        with _disturbing(watcher):
            yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(watcher.standing.pid, signal.SIGTERM)


@contextlib.contextmanager
def _disturbing(watcher: Watcher) -> Iterator[None]:
    import threading

    over = threading.Event()

    def disturb() -> None:
        n = 0
        while not over.wait(0.5):
            n += 1
            orders = [wanted(300, seed=n), Pause(), Branch(1, min(n, 3)), wanted(4, seed=n)]
            with contextlib.suppress(Exception):
                watcher.send(orders[n % 4])
                watcher.listen()

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        watcher.end.close()


# --- What must be left -----------------------------------------------------------------------------------------


def _of(folder: Path) -> list[psutil.Process]:
    """Processes that were started for a session."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in word for word in process.info["cmdline"] or ()):
            found.append(process)
    return found


def _nothing_left(folder: Path) -> None:
    deadline = time.monotonic() + LEAVING
    while left := [one for one in _of(folder) if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]:
        if time.monotonic() > deadline:
            raise Fault(f"processes were left behind: {left}")
        time.sleep(0.02)


def _recorded(folder: Path) -> None:
    """Every record is whole, and no failure is in it that is not said to be a mistake."""
    for file in folder.glob("**/*.tui"):
        try:
            trace = Trace.open(file)
            events = [event for _, _, event in trace.events()]
        except UserError as why:
            if "holds no" in str(why):
                continue
            raise Fault(f"a record cannot be read: {why}") from None
        for event in events:
            if isinstance(event, Failed) and event.detail:
                raise Fault(f"{event.sentence}\n{event.detail}")


def cases(kind: str, seed: int, n: int, most: int) -> Iterator[Case]:
    """Sessions of at most so many actions, n actions in all if none is left before its end."""
    import random

    from fuzzing.actions import USUAL, made

    session = 0
    while n > 0:
        session += 1
        luck = random.Random(f"{seed} {kind} {session}")
        size = luck.choice(USUAL)
        awaited = "text" if luck.random() < 0.7 else "paint"
        part = min(n, most)
        played = yield Case(kind, size, awaited, tuple(made(f"{seed} {kind} {session}", part, size)))  # type: ignore[misc]
        n -= part if played is None else played


def shrunk(case: Case, bound: float, tries: int = 80, repeats: int = 2) -> tuple[Case, str]:
    """The fewest actions that were found to fail still, and how they fail."""

    def fails(actions: Sequence[Action]) -> str:
        for _ in range(repeats):
            try:
                play(Case(case.kind, case.size, case.awaited, tuple(actions)), bound)
            except Fault as fault:
                return str(fault)
        return ""

    actions, last_fault, size = list(case.actions), "", max(len(case.actions) // 2, 1)
    while tries > 0:
        at = 0
        while at < len(actions) and tries > 0:
            fewer = actions[:at] + actions[at + size :]
            tries -= 1
            if fewer and (said := fails(fewer)):
                actions, last_fault = fewer, said
            else:
                at += size
        if size == 1:
            break
        size //= 2
    return Case(case.kind, case.size, case.awaited, tuple(actions)), last_fault
