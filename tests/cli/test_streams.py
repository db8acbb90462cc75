"""What the standard streams lead to, and what goes over them: closed, full, hung up, hostile; and failures."""

import os
import pty
import re
import subprocess
import sys

import pytest
from recordings import recorded, session

from tui_entropy.cli import app
from tui_entropy.cli.main import check_text, exit_code
from tui_entropy.core.errors import UserError
from tui_entropy.core.streams import PipeClosed

US = (sys.executable, "-m", "tui_entropy")


@pytest.fixture
def trace(tmp_path, own_folders):
    return recorded(tmp_path / "one.tui", *session(5))


def ours(*arguments: str, shell: str = "", **options) -> subprocess.CompletedProcess:
    """Run a command. shell: what stands behind it, such as a redirection."""
    command = f"exec {' '.join(map(str, (*US, *arguments)))} {shell}"
    return subprocess.run(["bash", "-c", command], stderr=subprocess.PIPE, timeout=60, **options)


@pytest.mark.parametrize(
    ("shell", "said"),
    [(">/dev/full", "stdout cannot be written (No space left"), (">&-", "stdout cannot be written (Bad file desc")],
)
@pytest.mark.parametrize("command", ["show", "merge", "export --to csv -o -", "export --to jsonl -o -"])
def test_a_stdout_that_takes_nothing_is_told_in_a_sentence(trace, command, shell, said):
    name, *rest = command.split()
    done = ours(name, trace, *rest, shell=shell)
    assert done.returncode == 3
    assert done.stderr.decode().startswith(said) and done.stderr.count(b"\n") == 1


def test_a_pipe_that_nobody_reads_ends_the_command_without_a_word(trace):
    for command in (["show"], ["export", "--to", "jsonl", "-o", "-"]):
        with subprocess.Popen([*US, command[0], trace, *command[1:]], stdout=-1, stderr=-1) as process:
            process.stdout.close()
            assert (process.stderr.read(), process.wait()) == (b"", 141)


@pytest.mark.parametrize(("shell", "code"), [("2>&-", 3), ("2>/dev/full", 3), ("<&- >&- 2>&-", 3)])
def test_where_nobody_can_be_told_the_code_still_tells(own_folders, shell, code):
    assert ours("show", "nothing", shell=shell).returncode == code


def test_no_file_of_ours_takes_the_place_of_a_closed_stream(trace):
    before = trace.read_bytes()
    for shell in ("<&- >&-", ">&- 2>&-", "<&- 2>&-"):
        ours("show", trace, shell=shell)
    assert trace.read_bytes() == before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"shell": "<&-"}, "stdin cannot be read (Bad file descriptor)"),
        ({"input": b"caf\xe9"}, "stdin is no UTF-8 (byte 4 is 0xe9)"),
        ({"input": b"\0" * (2**26 + 1)}, "stdin holds more than 64 MiB"),
    ],
)
@pytest.mark.parametrize("command", ["run --headless", "serve"])
def test_a_prompt_on_stdin_that_is_none_is_refused_before_a_model_is_looked_for(own_folders, command, given, said):
    done = ours(*command.split(), "--model /nowhere -p -", **given)
    assert (done.returncode, done.stderr.count(b"\n")) == (3, 1)
    assert done.stderr.decode().startswith(said)


def test_an_option_that_is_no_text_is_named():
    check_text(["run", "-p", "é 🙂 \x1b"])
    with pytest.raises(UserError, match=r"the value of --system is no UTF-8 \(it holds the byte 0xff\)"):
        check_text(["run", "--system", os.fsdecode(b"a\xff")])
    with pytest.raises(UserError, match="argument 2 is no UTF-8"):
        check_text(["show", os.fsdecode(b"\x80.tui")])


HOSTILE = "\x1b]0;owned\x07\x9b31m\u202e\nforged\r"


def in_terminal(*arguments: str) -> tuple[bytes, int]:
    """Every byte that a terminal gets, and the exit code."""
    here, there = pty.openpty()
    process = subprocess.Popen([*US, *arguments], stdin=there, stdout=there, stderr=there)
    os.close(there)
    got = b""
    while True:
        try:
            chunk = os.read(here, 1 << 16)
        except OSError:
            break
        if not chunk:
            break
        got += chunk
    os.close(here)
    return got, process.wait()


OBEYED = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\xa8-\xae]|\xe2\x81[\xa6-\xa9]")


@pytest.mark.parametrize("command", ["show", "merge", "rm", "replay", "export --to csv"])
def test_a_name_in_a_sentence_is_one_line_and_obeyed_by_nothing(own_folders, command):
    name, *rest = command.split()
    got, code = in_terminal(name, HOSTILE, *rest)
    assert code == 3 and not OBEYED.search(got)
    assert got.count(b"\n") == 1 and "there is no trace ␛]0;owned␇‹009B›31m‹202E›⏎forged␍".encode() in got


def broken():
    raise KeyError(HOSTILE)


@pytest.mark.parametrize("command", app.registered_commands, ids=lambda command: command.callback.__name__)
def test_an_unexpected_failure_of_any_command_leaves_a_report_and_a_sentence(
    command, own_folders, monkeypatch, capsys
):
    name = command.callback.__name__
    monkeypatch.setattr(command, "name", name)
    monkeypatch.setattr(command, "callback", broken)
    assert exit_code(lambda: app([name], standalone_mode=True)) == 1
    out, said = capsys.readouterr()
    assert out == "" and said.count("\n") == 1
    (report,) = re.findall(r"the report (\S+\.txt) tells", said)
    with open(report) as file:
        report_text = file.read()
    assert "in broken" in report_text and "KeyError" in report_text
    assert not OBEYED.search(report_text.encode()) and not OBEYED.search(said.encode())
    assert os.stat(report).st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("so"), 3, "so\n"),
        (KeyboardInterrupt(), 130, ""),
        (PipeClosed(), 141, ""),
        (MemoryError(), 3, "the memory of this machine is used up: "),
        (OSError(28, "No space left on device", "/x\x1b"), 3, "/x␛ cannot be used (No space left on device): "),
        (SystemExit(2), 2, ""),
    ],
)
def test_what_a_person_can_put_right_is_no_fault_of_the_program(error, code, said, capsys):
    def fails():
        raise error

    assert exit_code(fails) == code
    assert capsys.readouterr().err.startswith(said)


def stty_settings(terminal: int) -> str:
    with open(os.ttyname(terminal)) as settings:
        return subprocess.run(["stty", "-g"], stdin=settings, capture_output=True, text=True, check=True).stdout


def test_a_screen_that_fails_leaves_a_report_and_the_terminal_as_it_was(trace):
    code = (
        "from tui_entropy.ui.app.replay_app import ReplayApp as R; R.on_key = lambda *_: 1 / 0; R.schedule = R.on_key"
    )
    code += f"; import sys; sys.argv[1:] = ['replay', {str(trace)!r}]; from tui_entropy.__main__ import main; main()"
    here, there = pty.openpty()
    before = stty_settings(there)
    environment = os.environ | {"TERM": "xterm-256color"}
    process = subprocess.Popen([sys.executable, "-c", code], stdin=there, stdout=there, stderr=there, env=environment)
    got = b""
    while b"tells all that is known" not in got:
        got += os.read(here, 1 << 16)
    assert process.wait(30) == 1
    assert stty_settings(there) == before
    assert b"ZeroDivisionError" in got and b"Traceback" not in got and b"\x1b[?1049l" in got
    os.close(there)
    os.close(here)
