"""The commands for traces: list, show, remove, and the text of branches."""

import io
import os
import shlex
import subprocess
import sys

import pytest
from msgspec.structs import replace
from recorded import on_device, recorded, session
from scripted import started

from tui_entropy.analysis.recorded_answers import recorded_answers
from tui_entropy.cli import trace_path
from tui_entropy.cli.choose import chosen_trace
from tui_entropy.cli.usage import WrongUsage
from tui_entropy.core import paths
from tui_entropy.core.errors import UserError
from tui_entropy.export.recorded_run import open_recording
from tui_entropy.records.events import Ended, Labelled, Switched
from tui_entropy.trace.library import branch_texts, describe, listing, new_path, remove, resolve, typed_name
from tui_entropy.trace.playback import Playback
from tui_entropy.trace.reader import Trace


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A user's folder with one trace of two runs in it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return recorded(paths.traces() / "a.tui", [*session(3, 2), Ended(2, "stopped")])


def test_a_name_tells_the_model_and_what_was_asked(kept):
    path = new_path("/models/Tiny Model.gguf", "What's ../../the $(matter) with\nyou?? and me and them")
    assert path.parent == kept.parent
    assert path.name.split("-", 4)[4] == "tiny-model-what-s-the-matter-with-you-and.tui"
    assert len(new_path("m" * 300, "x " * 300).name) < 100


def test_a_file_that_was_named_is_not_recorded_over(kept):
    with pytest.raises(UserError, match="there already"):
        trace_path(kept, "smollm2", "x")
    assert trace_path(kept.with_name("b.tui"), "smollm2", "x").name == "b.tui"


def test_traces_are_listed_and_found_by_their_names(kept):
    (kept.parent / "odd.tui").write_text("no trace")
    head, *rows = listing().splitlines()
    assert head.split() == ["name", "when", "model", "runs", "tokens", "size", "prompt"]
    (row,) = [line for line in rows if line.startswith("a ")]
    assert "tiny" in row and row.split()[4:6] == ["2", "5"] and row.endswith("The capital is")
    assert "cannot be read" in next(line for line in rows if line.startswith("odd "))
    assert resolve("a") == resolve("a.tui") == resolve(str(kept)) == kept
    with pytest.raises(UserError, match="there is no trace b"):
        resolve("b")


NAMES = (
    "2026-11-28-090000-smollm2-why-is-the-sky-blue",
    "2026-11-29-090000-smollm2-write-a-story",
    "2026-11-29-100000-smollm2-write-a-poem",
)


@pytest.fixture
def three(tmp_path, monkeypatch):
    """A user's folder with three traces, of which the first one was written last."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    found = [recorded(paths.traces() / f"{name}.tui", session(2)) for name in NAMES]
    for age, path in enumerate(found):
        os.utime(path, (1_800_000_000 - age,) * 2)
    return found


def test_a_trace_is_found_by_last_and_by_a_part_that_no_other_has(three, tmp_path):
    sky, story, poem = three
    assert resolve("last") == sky
    assert resolve("STORY") == resolve("write a story") == resolve("2026-11-29-09") == story
    assert resolve("poem.tui") == poem and resolve("2026-11-28") == sky
    (tmp_path / "poem").write_text("a file that is named whole goes before a part of a name")
    assert str(resolve("poem")) == "poem"
    recorded(story.with_name("write.tui"), session(1))
    assert resolve("write").stem == "write"


def test_a_part_of_several_names_lists_them_in_one_sentence(three):
    with pytest.raises(UserError) as ambiguous:
        resolve("write")
    sentence = str(ambiguous.value)
    assert "2 traces" in sentence and NAMES[1] in sentence and NAMES[2] in sentence and NAMES[0] not in sentence
    for n in range(6):
        recorded(paths.traces() / f"write-{n}.tui", session(1))
    with pytest.raises(UserError, match=r"8 traces.*and 3 more"):
        resolve("write")
    for odd in ("", "-", "../write", "no such words"):
        with pytest.raises(UserError, match="there is no trace"):
            resolve(odd)


def test_with_no_trace_at_all_last_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"no trace in .* yet"):
        resolve("last")


def test_what_is_told_to_type_leads_to_the_very_trace(three, tmp_path):
    same_second = recorded(three[2].with_name(f"{NAMES[2][:17]}-other.tui"), session(1))
    named_last = recorded(three[2].with_name("last.tui"), session(1))
    elsewhere = recorded(tmp_path / "my own" / "a.tui", session(1))
    typed = [typed_name(path) for path in (*three, same_second, named_last, elsewhere)]
    assert typed[:2] == ["2026-11-28-090000", "2026-11-29-090000"] and typed[2] == NAMES[2]
    for path, words in zip((*three, same_second, named_last, elsewhere), typed, strict=True):
        assert resolve(*shlex.split(words)) == path


def test_replay_export_and_recorded_answers_take_the_run_that_was_looked_at_last(tmp_path):
    path = recorded(tmp_path / "a.tui", [*session(3, 2), Switched(1)])
    playback = Playback(Trace.open(path))
    assert playback.run == open_recording(path, None, False).started.run == recorded_answers(path, None)[1].run_number
    assert playback.run == 1


@pytest.mark.parametrize("answer", ["2\n", "story\n", "write a story\n"])
def test_without_a_name_one_is_chosen_from_a_list(three, monkeypatch, capsys, answer):
    typed(monkeypatch, answer)
    assert chosen_trace(None) == three[1]
    listed = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in listed[1:4]] == ["1", "2", "3"] and "The capital is" in listed[1]


def test_enter_alone_takes_the_newest_and_no_answer_takes_none(three, monkeypatch, capsys):
    typed(monkeypatch, "\n")
    assert chosen_trace(None) == three[0]
    typed(monkeypatch, "")
    with pytest.raises(UserError, match="none was chosen"):
        chosen_trace(None)


def test_without_a_name_and_a_terminal_it_is_one_sentence(three, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("1\n"))
    with pytest.raises(WrongUsage, match="no terminal to choose one in: give `last`"):
        chosen_trace(None)


def typed(monkeypatch, answer: str) -> None:
    """A person at a terminal who answers so."""
    stdin = io.StringIO(answer)
    monkeypatch.setattr(stdin, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", stdin)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)


def test_a_trace_is_told_with_its_text_and_numbers(kept):
    text = describe(kept)
    assert "run 1 · 3 + 3 tokens" in text and "run 2 · 3 + 2 tokens · ended: stopped" in text
    assert "> The capital is\n w0 w1 w2\n" in text and "mean entropy 0.4 nats" in text
    assert "run 1 " not in describe(kept, 2)
    with pytest.raises(UserError, match="no run 7"):
        describe(kept, 7)


def test_a_damaged_trace_is_told_as_far_as_it_can_be_read(kept):
    kept.write_bytes(kept.read_bytes()[:-4096])
    assert "damaged" in describe(kept) and "> The capital is" in describe(kept)


def test_a_branch_is_told_from_its_root(kept):
    forest(kept)
    assert branch_texts(kept).startswith("The capital is w0 w1 w2\n\n---\n\nThe capital is w0 or\n\n---\n\n")
    assert branch_texts(kept, 3) == "The capital is w0 or else\n"
    with pytest.raises(UserError, match="no run 5"):
        branch_texts(kept, 5)


def forest(path) -> None:
    """In place of a trace: run 2 goes on from one step of run 1, run 3 from run 2, and run 4 is another prompt."""
    path.unlink()
    branch, word = replace(started(2), parent=1, shared=1), " or"
    events = [*session(3), branch, on_device(1, 2, word), Labelled(2, "otherwise", True)]
    events += [replace(branch, run=3, parent=2, shared=2), on_device(2, 3, " else"), Labelled(3, "", False, True)]
    recorded(path, [*events, replace(started(4), prompt="A new one"), on_device(0, 4, " so")])


def test_the_runs_are_shown_as_a_tree_and_of_a_branch_its_own_words(kept):
    forest(kept)
    text = describe(kept)
    assert text.split("\n\n")[1].splitlines() == [
        "run 1 · 3 tokens · The capital is",
        '  run 2 "otherwise" * · shares 1 · 1 tokens · or',
        "    run 3 (deleted) · shares 2 · 1 tokens · else",
        "run 4 · 1 tokens · A new one",
    ]
    assert "run 3 · 3 + 3 tokens" in text and "… from token 3 of run 2 on\n else\n" in text
    assert describe(kept, 3).endswith("> The capital is\n w0 or else\n") and "run 1 ·" not in describe(kept, 3)
    assert listing().splitlines()[1].split()[4:6] == ["4", "6"]


def test_only_traces_are_removed_and_only_those_agreed_to(kept, tmp_path):
    other, letter = recorded(tmp_path / "b.tui", session(1)), tmp_path / "letter.txt"
    letter.write_text("Dear all")
    journal = kept.with_name("a.tui-wal")
    journal.write_bytes(b"")
    with pytest.raises(UserError, match=r"letter.txt is no trace"):
        list(remove([kept, letter], lambda question: True))
    assert list(remove([kept, other], lambda question: str(kept) in question)) == [kept]
    assert not kept.exists() and not journal.exists() and other.exists() and letter.exists()


def test_the_commands_answer(kept):
    def said(*command: str, answer: str = "") -> tuple[int, str]:
        run = [sys.executable, "-m", "tui_entropy", *command]
        done = subprocess.run(run, capture_output=True, text=True, input=answer, env=dict(os.environ))
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    assert said("show", "a", "--run", "2")[1].endswith("> The capital is\n w0 w1\n")
    assert said("merge", "a", "--run", "1") == (0, "The capital is w0 w1 w2\n")
    assert said("show", "nowhere")[0] == 3
    said("rm", "a", answer="n\n")
    assert kept.exists()
    assert said("rm", "--yes", "a")[0] == 0 and not kept.exists()
    assert said("traces") == (0, f"no traces in {kept.parent} yet\n")
