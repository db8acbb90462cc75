"""Whatever a command is given as an option, by its environment or in a file, it does it or refuses it in a sentence:
no traceback, no fault of the program, nothing that a terminal obeys, in bounded time and memory."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import recordings
import small
import typer
from fork_server import Done, ForkServer
from fuzzing.scanner import OBEYED
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_values import HOSTILE, damaged, written

from tui_entropy.cli import app
from tui_entropy.cli.main import command as main_command
from tui_entropy.cli.main import exit_code

CODES = {0, 2, 3}
"""Done, wrong options, something that a person can put right."""
LINES = 14
"""Of a refusal, progress before it included."""

few = settings(max_examples=45, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
many = settings(max_examples=3000, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recordings.recorded(tmp_path_factory.mktemp("trace") / "one.tui", *recordings.session(12))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.saved(tmp_path_factory.mktemp("model"))


def lawful(done: Done, codes: set[int] = CODES) -> Done:
    said = done.err.decode("utf-8")
    assert not done.killed and done.code in codes, (done.code, said[-600:])
    assert "Traceback" not in said and "fault of the program" not in said, said[-600:]
    assert not OBEYED.search(said), ascii(OBEYED.search(said))
    assert done.code != 2 or said.count("\n") == 1 or said.startswith("--break: "), said[:2000]
    assert done.code == 0 or (said.strip() and said.count("\n") <= LINES and len(said) < 8000), said[:2000]
    return done


# --- Options -------------------------------------------------------------------------------------------------------


COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
GIVEN = {
    "run": ["--headless", "--model", "MODEL", "-p", "ab", "--max-tokens", "2", "--no-trace"],
    "read": ["--headless", "--model", "MODEL", "--no-trace", "TEXT"],
    "open": ["--headless", "--no-trace", "--model", "/nowhere", "TRACE"],
    "doctor": ["--model", "/nowhere"],
    "probe": ["--recording", "TRACE"],
    "lens": ["fit", "/nowhere", "--output", "out-lens", "--model", "/nowhere"],
    "embeddings": ["markov", "TEXT", "--model", "/nowhere"],
    "perplexity": ["TEXT", "--model", "/nowhere"],
    "analyze": ["TEXT", "--model", "/nowhere"],
    "calibrate": ["TEXT", "--model", "/nowhere", "--headless"],
    "compare": [".", "TEXT", "--model", "/nowhere", "--headless"],
    "grade": ["TEXT", "--model", "/nowhere", "--headless"],
    "results": ["TEXT", "--headless"],
    "serve": ["--model", "/nowhere", "--no-trace", "--keep", "0"],
    "fetch": [],
    "models": [],
    "themes": [],
    "traces": [],
    "show": ["TRACE"],
    "merge": ["TRACE"],
    "export": ["TRACE", "--to", "csv", "-o", "-"],
    "replay": ["TRACE", "--snapshot", "out.txt"],
    "attach": ["--list"],
    "stop": ["nobody"],
    "rm": ["TRACE", "nowhere.tui"],
    "config": [],
    "tour": [],
}
"""What makes a command do little, whatever else it is told."""
ELSEWHERE = {("attach", "--ssh"), ("fetch", "name")}
"""What is another program's, or the network's."""
PLACES = sorted(
    (name, max(each.opts, key=len) if each.param_type_name == "option" else each.name)
    for name, command in COMMANDS.items()
    for each in command.params
    if "--help" not in each.opts
)
ODD = st.sampled_from([
    "nan", "inf", "-inf", "1e-2", "1e400", "99999999999999999999", "-1", "0", "", " ", "x" * 50_000, "9" * 5000,
    HOSTILE, b"\xff\xfe", "-", "--", "/dev/zero", "/dev/null", "/", "..", "\u0663", "\u00b2", "1_0", "0x10", ".5",
    "1:2:3:4", ":", ":1", "x:1e400:5-3", "99999x99999", "0x0", "1,2,,", "None", "a" * 300 + ".tui", "[/b]", "%s%n",
    "${HOME}", "entropy > nan", "entropy >", "text ~ '('", "(" * 5000, "30m", "1e3h", "9999999999h", "1GiB", "-1GiB",
])  # fmt: skip


def test_every_command_is_here():
    assert GIVEN.keys() == COMMANDS.keys()


def with_option(commands: ForkServer, trace: Path, model: Path, place: tuple[str, str], value: str | bytes) -> Done:
    command, name = place
    kept = commands.cwd / "kept.tui"
    shutil.copy(trace, kept)
    (commands.cwd / "text.txt").write_text("abcd")
    known = {"TRACE": str(kept), "MODEL": str(model), "TEXT": "text.txt"}
    given = [known.get(word, word) for word in GIVEN[command]]
    argument = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
    if not name.startswith("--"):
        given = [word for word in given if word not in (str(kept), "text.txt")]
        return commands.run(command, *given, "--", argument)
    is_flag = next(each.is_flag for each in COMMANDS[command].params if name in each.opts)
    return commands.run(command, *given, name if is_flag else name.encode() + b"=" + argument)


places = st.sampled_from([place for place in PLACES if place not in ELSEWHERE])


@few
@given(place=places, value=ODD)
def test_any_option_with_any_value(commands, trace, model, place, value):
    lawful(with_option(commands, trace, model, place, value))


@pytest.mark.slow
@many
@given(place=places, value=ODD)
def test_any_option_with_any_value_for_long(commands, trace, model, place, value):
    lawful(with_option(commands, trace, model, place, value))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["replay", "TRACE", "--speed", "nan"], "nan is no number"),
        (["replay", "TRACE", "--snapshot", ""], "wanted FILE.svg"),
        (["replay", "TRACE", "--snapshot", HOSTILE], "wanted FILE.svg"),
        (["run", "--banned", "9" * 5000], "is no token id"),
        (["run", "--max-tokens", "99999999999999999999"], "is not in the range"),
        (["show", "x" * 50_000], "cannot be used (File name too long)"),
    ],
)
def test_what_is_wrong_with_an_option_is_said(commands, trace, line, said):
    assert said in lawful(commands.run(*[str(trace) if word == "TRACE" else word for word in line])).said


ANY_TEXT = {
    "model", "revision", "chat_template", "prompt", "system", "watch", "trace", "socket", "cast", "out", "ssh",
    "remote", "clarifier", "lens_file", "dry_breakers", "recording", "output", "svg", "field", "config",
    "control_vector", "resume", "prompt_b", "revision_b", "server_model", "against", "text",
}  # fmt: skip
"""Options that any text can be the value of: names of files, of models and of programs, and what is written of."""
NONSENSE = "\u2603:=\x1b[x"
NEEDED = {
    "show": ["x"], "merge": ["x"], "rm": ["x"], "fetch": ["x"], "replay": ["x"], "export": ["x", "--to", "csv"],
    "read": ["x"], "lens": ["fit", "x", "-o", "x"], "embeddings": ["markov", "x"],
    "perplexity": ["x"], "calibrate": ["x"], "compare": [".", "x"], "results": ["x"],
    "grade": ["x"],
}  # fmt: skip
VALUES = [
    (name, each)
    for name, command in COMMANDS.items()
    for each in command.params
    if each.param_type_name == "option" and not each.is_flag and each.name not in ANY_TEXT
]


@pytest.mark.parametrize(("command", "option"), VALUES, ids=lambda one: getattr(one, "name", one))
def test_every_option_of_every_command_is_checked_before_the_command_begins(command, option, monkeypatch, capsys):
    """Whether the command would use it or not: its parsing alone is looked at, so nothing of a command runs here."""
    begun = []
    monkeypatch.setattr(type(COMMANDS[command]), "invoke", lambda _, context: begun.append(context))
    given = [command, *NEEDED.get(command, []), f"{max(option.opts, key=len)}={NONSENSE}"]
    assert exit_code(lambda: main_command(given)) == 2 and not begun
    said = capsys.readouterr().err
    assert said.count("\n") == 1 or option.name == "stop_at"
    assert not OBEYED.search(said)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["--hedless"], "no such option: --hedless"),
        (["shwo"], "no such command 'shwo', did you mean 'show'"),
        (["show"], "no trace is named, and there is no terminal to choose one in: give `last`, a name of"),
        (["run", "--max-tokens", "x"], "invalid value for '--max-tokens': 'x' is not a valid int"),
        (["run", "--max-tokens"], "option '--max-tokens' requires an argument"),
        (["run", "--headless", "--theme", "nope"], "there is no theme 'nope': take one of dark, "),
        (["run", "--headless", "--keep", "99999999999999h"], "--keep 99999999999999h is longer than "),
        (["attach", "--list", "--color", "pink"], "--color pink is not known: take auto or one of "),
        (["themes", HOSTILE], "got unexpected extra argument"),
        ([HOSTILE], "no such command"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_one_sentence_and_exit_code_2(commands, line, said):
    done = lawful(commands.run(*line))
    assert done.code == 2 and done.said.count("\n") == 1 and done.said.startswith(said), done.said


# --- Environment ---------------------------------------------------------------------------------------------------


VARIABLES = (
    "TUI_ENTROPY_ENGINE", "TUI_ENTROPY_KEEP", "TUI_ENTROPY_ON_LEAVE", "TUI_ENTROPY_THEME", "COLUMNS", "LINES", "TERM",
    "LANG", "LC_ALL", "NO_COLOR", "COLORTERM", "HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME",
    "XDG_RUNTIME_DIR", "TMPDIR", "TZ", "USER", "PWD", "OMP_NUM_THREADS", "HF_HOME", "SSH_TTY", "PYTHONIOENCODING",
)  # fmt: skip
SURROUNDINGS = st.sampled_from([
    "", " ", "x", HOSTILE.replace("\n", ""), b"\xff\xfe", "nan", "-1", "99999999999999999999", "x" * 5000,
    "/dev/null", "/dev/zero", '"', "'unbalanced", 'a b "c', "/", "dumb", "C", "tr_TR.UTF-8", "1001", "30m",
])  # fmt: skip
LITTLE = st.sampled_from([
    ["traces"], ["show", "TRACE"], ["attach", "--list"], ["run", "--headless", "--model", "/nowhere", "-p", "a"],
    ["serve", "--model", "/nowhere", "--no-trace"], ["themes"], ["models"],
    ["replay", "TRACE", "--snapshot", "o.txt"],
])  # fmt: skip


def in_surroundings(commands: ForkServer, trace: Path, command: list[str], env: dict[str, str | bytes]) -> Done:
    return commands.run(*[str(trace) if word == "TRACE" else word for word in command], env=env, seconds=90)


environments = st.dictionaries(st.sampled_from(VARIABLES), SURROUNDINGS, min_size=1, max_size=2)


@settings(few, max_examples=40)
@given(command=LITTLE, env=environments)
def test_any_environment(commands, trace, command, env):
    lawful(in_surroundings(commands, trace, command, env))


@pytest.mark.slow
@many
@given(command=LITTLE, env=environments)
def test_any_environment_for_long(commands, trace, command, env):
    lawful(in_surroundings(commands, trace, command, env))


@pytest.mark.pty
@pytest.mark.parametrize(
    "env", [{"LINES": "9" * 20}, {"COLUMNS": "100000"}, {"TERM": HOSTILE}, {"LANG": "C"}, {"TZ": "x"}]
)
def test_a_screen_in_odd_surroundings_opens_and_is_left(commands, trace, env):
    done = commands.in_terminal("replay", str(trace), env=env, typed=b"qqq", seconds=60)
    assert not done.killed and done.code in CODES and b"Traceback" not in done.out, done.out[-600:]


# --- Files ---------------------------------------------------------------------------------------------------------


READERS = st.sampled_from([
    ["show", "TRACE"], ["merge", "TRACE"], ["traces"], ["export", "TRACE", "--to", "jsonl", "-o", "-"],
    ["export", "TRACE", "--to", "csv", "-o", "-"], ["export", "TRACE", "--to", "html", "-o", "-"],
    ["replay", "TRACE", "--snapshot", "o.txt"], ["replay", "TRACE", "--snapshot", "o.txt:page=numbers"],
    ["replay", "TRACE", "--snapshot", "o.txt:page=waterfall"], ["replay", "TRACE", "--snapshot", "o.txt:page=layers"],
])  # fmt: skip


def read(commands: ForkServer, path: Path, command: list[str]) -> Done:
    return lawful(commands.run(*[str(path) if word == "TRACE" else word for word in command]))


@settings(few, max_examples=30)
@given(data=st.data(), command=READERS)
def test_a_damaged_trace(commands, trace, data, command):
    read(commands, written(commands.cwd / "damaged.tui", data.draw(damaged(trace.read_bytes()))), command)


@pytest.mark.slow
@many
@given(data=st.data(), command=READERS)
def test_a_damaged_trace_for_long(commands, trace, data, command):
    read(commands, written(commands.cwd / "damaged.tui", data.draw(damaged(trace.read_bytes()))), command)


CHANGES = st.sampled_from([
    "entropy_nats = 9e999", "surprisal_nats = -9e999", "entropy_nats = 'x'", "rank = -5", "rank = 9e18", "step = 5",
    "position = -1", "token_id = -1", "at_seconds = 9e999", "perplexity = 1e308", "run = 99", "written_at = 9e999",
])  # fmt: skip


@settings(few, max_examples=15)
@given(change=CHANGES, command=READERS)
def test_a_trace_with_odd_numbers(commands, trace, change, command):
    path = commands.cwd / "odd.tui"
    shutil.copy(trace, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        try:
            db.execute(f"UPDATE OR IGNORE steps SET {change} WHERE step % 3 = 0")
        except sqlite3.Error:
            return
    read(commands, path, command)


def test_a_trace_with_one_huge_text_is_read_in_bounded_time(commands, trace):
    path = commands.cwd / "huge.tui"
    shutil.copy(trace, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(
            "UPDATE vocabulary SET bytes = zeroblob(30000000), text = hex(zeroblob(9000000)) WHERE token_id % 3 = 0"
        )
    for command in (
        ["show", "TRACE"],
        ["export", "TRACE", "--to", "jsonl", "-o", "-"],
        ["replay", "TRACE", "--snapshot", "o.txt"],
    ):
        assert read(commands, path, command).seconds < 30


TOML = st.sampled_from(["keys.toml", "themes/mine.toml"])
LINES_OF_TOML = st.lists(
    st.sampled_from([
        'quit = "x"', 'quit = 5', f'"{HOSTILE[1:4]}" = "a"', "quit = ", "[quit]", "quit = ['a', 5]", "\x00", "= 5",
        'name = "mine"', "dark = 5", "[chrome]", 'base = "#zzzzzz"', 'base = "red"', "[ramps]", "a = 1e999",
        'pause = "ctrl+\\u202e"', 'pause = ""', "x" * 5000, 'no.such.key = "a"', "a = [" * 3000,
    ]),
    max_size=5,
)  # fmt: skip


@settings(few, max_examples=12)
@given(name=TOML, lines=LINES_OF_TOML, tail=st.binary(max_size=3))
def test_a_persons_own_files_of_settings(commands, trace, name, lines, tail):
    path = Path(commands.env["XDG_CONFIG_HOME"]) / "tui-entropy" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    written(path, "\n".join(lines).encode() + tail)
    try:
        lawful(
            commands.run("replay", str(trace), "--snapshot", "o.txt", "--theme", "mine" if "mine" in name else "dark")
        )
        lawful(commands.run("themes"))
    finally:
        path.unlink()


# --- A full disk ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [3_000, 9_000, 40_000])
def test_a_disk_that_is_full_costs_the_record_and_not_the_text(commands, model, room):
    """No file can grow beyond `room`: full at the start, in the tables, or in the midst of the text."""
    trace = commands.cwd / f"full-{room}.tui"
    line = ["run", "--headless", "--model", str(model), "-p", "ab", "--max-tokens", "60", "--trace", str(trace)]
    done = commands.run(*line, largest_file=room, stdout=Path("/dev/null"))
    lawful(done, {0, 3})
    assert "recorded in" not in done.said and done.said.count("\n") < 12, done.said
    assert "is recorded" in done.said or "cannot be written" in done.said
    if trace.exists():
        shown = lawful(commands.run("show", str(trace)))
        assert b"\xc2\xb7 writing" not in shown.out
