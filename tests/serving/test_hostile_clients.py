"""What other programs of this user may say to an engine, and how many of them: the engine lives, the text goes on,
and nobody else notices."""

import os
import resource
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import hostile
import msgspec
import psutil
import pytest
from asking import rows_ask
from hypothesis import HealthCheck, given, seed, settings
from msgspec.structs import replace
from watchers import FAKE, LOAD, Watcher, started, wanted

from tui_entropy.core.errors import UserError
from tui_entropy.records.bounds import LONGEST_STAY
from tui_entropy.records.commands import Follow, Pause, SetKnobs, Stop, TakeControl
from tui_entropy.records.events import Dismissed, Event, Failed, Ready, Refused, Standing, Started
from tui_entropy.records.knobs import KNOBS
from tui_entropy.serving import admission
from tui_entropy.transport import connection, discovery

MIB = 2**20
KEEP = replace(LOAD, keep=600)


class Rival:
    """A client that says what it likes, and reads when it likes."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(10)
        try:
            self.socket.connect(os.fspath(path))
        except OSError:
            self.close()
            raise

    def say(self, data: bytes) -> bool:
        """Whether all of it was taken: whoever is let go is not listened to."""
        try:
            self.socket.sendall(data)
            return True
        except OSError:
            return False

    def hears(self, kind: type, seconds: float = 10):
        """The first event of a kind; None where the link ends without one."""
        end = connection.Connection(self.socket, Event)
        limit = time.monotonic() + seconds
        with suppress(connection.LinkClosed):
            while time.monotonic() < limit:
                for event in end.receive(0.1):
                    if isinstance(event, kind):
                        return event
        return None

    def close(self) -> None:
        self.socket.close()


class Writing:
    """An engine that writes without end, and the screen that is in control of it."""

    def __init__(self, prefix: tuple[str, ...] = (), rate: int = 100) -> None:
        self.started = discovery.start([*prefix, *FAKE, "--rate", str(rate)])
        self.path = self.started.socket
        self.screen = Watcher(self.path)
        self.screen.send(KEEP, wanted(10**6))
        self.goes_on()

    def goes_on(self, by: int = 3) -> None:
        """More is written, and the screen has heard all of it and of nothing that went wrong."""
        before = len(self.screen.steps)
        self.screen.until(lambda: len(self.screen.steps) >= before + by)
        assert [step.index for step in self.screen.steps] == list(range(len(self.screen.steps)))
        assert not [event for event in self.screen.heard if isinstance(event, Failed | Refused | Dismissed)]

    @property
    def memory(self) -> int:
        return psutil.Process(self.started.process.pid).memory_info().rss

    def close(self) -> None:
        self.started.process.kill()
        self.started.process.wait()
        self.screen.close()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("r")))
        yield


@pytest.fixture(scope="module")
def writing(folders):
    found = Writing()
    yield found
    found.close()


@pytest.fixture
def another(folders):
    """Makes engines of their own."""
    made = []

    def make(*prefix: str, rate: int = 100) -> Writing:
        made.append(Writing(prefix, rate))
        return made[-1]

    yield make
    for each in made:
        each.close()


# --- What is said ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", hostile.texts(), ids=range(len(hostile.texts())))
@pytest.mark.parametrize("split", [False, True], ids=["whole", "in drips"])
def test_no_message_of_another_client_stops_the_text(writing, message, split):
    rival = Rival(writing.path)
    if split:
        for at in range(0, min(len(message), 30), 3):
            rival.say(message[at : at + 3])
            time.sleep(0.002)
        rival.say(message[30:])
    else:
        rival.say(message)
    writing.goes_on(1)
    rival.close()


def test_who_says_what_is_no_message_hears_why_it_is_let_go_after_what_it_said_before(writing):
    rival = Rival(writing.path)
    rival.say(connection.encode(Stop()) + hostile.texts()[2] + connection.encode(Stop()))
    said = rival.hears(Dismissed)
    assert "cannot be read" in said.sentence and "utf-8" in said.sentence and "\n" not in said.sentence
    other = Rival(writing.path)
    other.say(connection.encode(Stop()) + hostile.texts()[2])
    assert "ctrl+g" in other.hears(Refused).sentence
    rival.close()
    other.close()


def test_a_number_that_no_command_may_have_is_refused_in_a_sentence_and_the_client_stays(writing):
    rival = Watcher(writing.path, follow=None)
    for n_keys, where in ((10**7, "n_keys"), (10**8, "n_keys"), (-5, "n_keys"), (2**63, "options")):
        rival.end.send_encoded(connection.encode(rows_ask(1, None, 3, 2, 0, n_keys)))
        assert where in rival.until(Refused).sentence
    rival.send(Pause())
    assert "ctrl+g" in rival.until(Refused).sentence
    rival.close()
    writing.goes_on()


def nobody_notices(writing, messages):
    rival = Rival(writing.path)
    for message in messages:
        if not rival.say(message):
            break
    rival.close()
    writing.goes_on(1)


@seed(13)
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(messages=hostile.st.lists(hostile.messages, max_size=5))
def test_whatever_a_client_says_that_only_watches_nobody_notices(writing, messages):
    nobody_notices(writing, messages)


@pytest.mark.slow
@seed(14)
@settings(max_examples=5000, deadline=None, suppress_health_check=list(HealthCheck))
@given(messages=hostile.st.lists(hostile.messages, max_size=12))
def test_whatever_a_client_says_that_only_watches_nobody_notices_for_long(writing, messages):
    nobody_notices(writing, messages)


def test_every_number_text_and_list_of_every_command_has_bounds():
    checked = {knob.name: knob for knob in KNOBS if knob.is_number}
    assert all(knob.high < float("inf") for knob in checked.values())
    for tag, kind in hostile.KINDS.items():
        for path, leaf in hostile.leaves(kind, tag):
            match leaf:
                case _ if path.split(".")[-2] == "knobs" and path.split(".")[-1] in checked:
                    pass  # by knobs.check, wherever knobs are obeyed
                case msgspec.inspect.StrType():
                    assert leaf.max_length or leaf.pattern, path
                case msgspec.inspect.VarTupleType() | msgspec.inspect.BytesType():
                    assert leaf.max_length, path
                case _:
                    assert leaf.ge is not None and leaf.le is not None, path


def test_the_sender_is_told_of_what_no_engine_would_take():
    for command in (
        rows_ask(1, None, 3, 2, 0, 2**63),
        SetKnobs(replace(wanted().knobs, seed=2**70)),
        replace(wanted(), prompt="x" * (connection.MAX_COMMAND_BYTES + 1)),
        replace(KEEP, keep=float("nan")),
        replace(KEEP, on_leave="sleep"),
    ):
        with pytest.raises(UserError):
            connection.encode_command(command)


# --- How much ----------------------------------------------------------------------------------------------------


def test_unfinished_messages_take_little_memory_however_many_there_are(another):
    writing = another()
    before = writing.memory
    rivals = [Rival(writing.path) for _ in range(12)]
    for rival in rivals:
        rival.socket.settimeout(0.5)
        rival.say(connection.LENGTH.pack(connection.MAX_COMMAND_BYTES) + b"x" * (15 * MIB))
        writing.goes_on(1)
    assert writing.memory - before < 1.5 * admission.MAX_PENDING_BYTES
    for rival in rivals:
        rival.close()


def test_who_asks_without_reading_costs_a_bounded_amount_and_holds_nothing_up(another):
    writing = another()
    before = writing.memory
    rivals = [Rival(writing.path) for _ in range(6)]
    ask = connection.encode(rows_ask(1, None, 63, 64, 0, 512))
    for rival in rivals:
        rival.socket.setblocking(False)
    for _ in range(100):
        for rival in rivals:
            rival.say(ask * 20)
    writing.goes_on(20)
    assert writing.memory - before < 2 * admission.MAX_PENDING_BYTES
    for rival in rivals:
        rival.close()


def test_a_flood_of_changes_of_control_leaves_the_others_connected(another):
    writing = another()
    rival = Rival(writing.path)
    rival.socket.settimeout(1)
    rival.say(b"".join(map(connection.encode, (Follow(), TakeControl(), Stop(), Follow()))) * 3000)
    count = len(writing.screen.heard)
    writing.screen.until(lambda: not writing.screen.standing.in_control)
    rival.close()
    writing.screen.until(lambda: writing.screen.standing.in_control)
    writing.screen.send(wanted(5))
    writing.screen.until(Started)
    assert len(writing.screen.heard) - count < 3000


# --- How many ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "clients"), [(64, 200), (1024, 1100)])
def test_more_clients_than_descriptors_are_turned_away_and_the_owner_gets_in(another, limit, clients):
    writing = another("bash", "-c", f'ulimit -n {limit}; exec "$@"', "bash", rate=50)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 2 * clients), hard), hard))
    rivals = []
    for number in range(min(clients, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200)):
        with suppress(OSError):
            rivals.append(Rival(writing.path))
            if number % 3 == 0:
                rivals[-1].say(connection.encode(Follow()))
    writing.goes_on()
    owner = Watcher(writing.path)
    owner.until(Standing)
    owner.send(TakeControl())
    owner.until(lambda: owner.standing.in_control)
    owner.send(wanted(5))
    owner.until(Started)
    assert writing.started.process.poll() is None
    dismissed = [rival for rival in rivals[:3] if rival.hears(Dismissed, 5)]
    assert dismissed  # and why
    for rival in rivals:
        rival.close()
    owner.close()


COMMAND = (sys.executable, "-m", "tui_entropy")


def test_an_engine_that_is_stopped_and_full_is_listed_refused_in_a_sentence_and_ended(another):
    writing = another()
    writing.started.process.send_signal(signal.SIGSTOP)
    knocking = []
    for _ in range(400):
        knocking.append(end := socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        end.setblocking(False)
        try:
            end.connect(os.fspath(writing.path))
        except BlockingIOError:
            break
    else:
        raise AssertionError("its queue has no end")
    name = writing.path.stem
    listed = subprocess.run([*COMMAND, "attach", "--list"], capture_output=True, text=True, timeout=60)
    assert f"{name}  " in listed.stdout and "busy" in listed.stdout and not listed.stderr.count("Traceback")
    stopped = subprocess.run([*COMMAND, "stop", name], capture_output=True, text=True, timeout=60)
    assert stopped.returncode == 0 and "has ended" in stopped.stderr, stopped.stderr
    assert writing.started.process.wait(10) == -9
    for end in knocking:
        end.close()


# --- How long ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", ["99999999999999h", "9" * 400 + "s"])
def test_a_stay_longer_than_can_be_counted_is_refused_before_anything_starts(folders, keep, monkeypatch):
    monkeypatch.setenv("TUI_ENTROPY_ENGINE", shlex.join(FAKE))
    done = subprocess.run(
        [*COMMAND, "serve", "--model", "toy", "--keep", keep], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and done.stderr.startswith("--keep") and done.stderr.count("\n") == 1


def test_the_longest_stay_is_waited_for(another):
    writing = another()
    writing.started.process.kill()
    longest = started("--rate", "100")
    screen = Watcher(longest.socket)
    screen.send(replace(KEEP, keep=LONGEST_STAY))
    screen.until(Ready)
    screen.close()
    time.sleep(0.5)
    assert Watcher(longest.socket, None).standing.keep == LONGEST_STAY
    longest.process.kill()
    longest.process.wait()
