"""Pictures and films of a recording: the same bytes each time, and what a terminal would have shown."""

import json
import re
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from recordings import RATE, recorded, session
from rich.color import Color
from terminal import Screen

from tui_entropy.cli import main
from tui_entropy.core.errors import UserError
from tui_entropy.trace.playback import Playback
from tui_entropy.trace.reader import Trace
from tui_entropy.ui.app.replay_app import ReplayApp
from tui_entropy.ui.capture import film, snapshot
from tui_entropy.ui.capture.asciicast import Asciicast
from tui_entropy.ui.capture.moment import Clock
from tui_entropy.ui.capture.wishes import Snapshot, parse_size, parse_snapshot
from tui_entropy.ui.drawing.contrast import contrast
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.drawing.theme import load


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return recorded(tmp_path_factory.mktemp("traces") / "story.tui")


@pytest.fixture
def replay(file, monkeypatch, capsys):
    """The command: its exit status, and what it said."""

    def called(*options):
        monkeypatch.setattr(sys, "argv", ["tui-entropy", "replay", str(file), *map(str, options)])
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code, capsys.readouterr().err

    return called


def test_several_pictures_at_once_and_each_the_same_again(replay, tmp_path):
    wishes = (
        "a.txt@120x36:token=20",
        "a.svg@80x24",
        "b.txt@200x60:page=numbers",
        "c.svg@120x36:token=3,page=waterfall",
    )
    made = []
    for again in ("one", "two"):
        (tmp_path / again).mkdir()
        assert replay(*(part for wish in wishes for part in ("--snapshot", tmp_path / again / wish))) == (0, "")
        made.append([(tmp_path / again / re.split("[@:]", wish)[0]).read_bytes() for wish in wishes])
    assert made[0] == made[1]
    lines = made[0][0].decode().splitlines()
    assert len(lines) == 36 and max(map(len, lines)) <= 120
    assert "step 20 of 40" in lines[1]
    assert any(line.startswith("model   the city of Paris , which sits on the Seine┴") for line in lines)
    assert "newest" in made[0][2].decode() and b"font-face" not in made[0][1]


def test_a_picture_says_what_the_text_says_with_every_space(file, tmp_path):
    for name in ("a.txt", "a.svg"):
        snapshot.draw(Trace.open(file), None, [Snapshot(tmp_path / name, (120, 36), 20)], Paint())
    drawn = ElementTree.parse(tmp_path / "a.svg")
    rows = {}
    for text in drawn.iter("{http://www.w3.org/2000/svg}text"):
        if "clip-path" in text.attrib:
            line = int(text.attrib["clip-path"].split("-")[-1].rstrip(")"))
            at = round(float(text.attrib["x"]) / 12.2)
            rows[line] = rows.get(line, "").ljust(at) + (text.text or "").replace("\xa0", " ")
    shown = (tmp_path / "a.txt").read_text().splitlines()
    assert [rows.get(y, "").rstrip() for y in range(36)] == shown


@pytest.mark.parametrize(
    ("wish", "shown", "absent"),
    [
        ("@80x24:pane=heads", ["heads"], ["next token"]),
        ("@120x36:token=20,layer=12,head=3", ["layer 12 head 3", "step 20"], []),
        ("@120x36:layer=12,head=mean", ["layer 12 mean"], []),
        ("@120x36:tint=window perplexity", ["tint: window perplexity"], []),
        ("@120x36:tint=window_perplexity", ["tint: window perplexity"], []),
        ("@80x24:tint=attention,layer=12", ["tint: attention, layer 12"], []),
        ("@120x36:zoom", ["text"], ["next token", "over time"]),
        ("@120x36:pane=candidates,zoom", ["next token"], ["over time", "heads"]),
        ("@120x36:pane=chart,zoom,token=3", ["over time", "step 3"], ["next token"]),
        ("@120x36:run=2", ["step 12 of 12"], []),
    ],
)
def test_a_picture_is_of_what_was_asked_for(tmp_path, wish, shown, absent):
    trace = Trace.open(recorded(tmp_path / "a.tui", *session(40), *session(12, run=2)))
    snapshot.draw(trace, 1, [parse_snapshot(f"{tmp_path / 'a.txt'}{wish}")], Paint())
    text = (tmp_path / "a.txt").read_text()
    assert all(words in text for words in shown) and not any(words in text for words in absent), text


def test_looks_are_as_asked(replay, tmp_path):
    replay("--snapshot", tmp_path / "a.txt", "--ascii")
    assert (tmp_path / "a.txt").read_text().isascii()
    replay("--snapshot", tmp_path / "dark.svg", "--snapshot", tmp_path / "b.svg")
    replay("--snapshot", tmp_path / "light.svg", "--theme", "light")
    replay("--snapshot", tmp_path / "mono.svg", "--color", "mono")
    drawn = {name: (tmp_path / f"{name}.svg").read_text() for name in ("dark", "light", "mono", "b")}
    assert drawn["dark"] == drawn["b"] and len({*drawn.values()}) == 3


@pytest.mark.parametrize("name", ["dark", "light", "high-contrast"])
def test_sixteen_colours_can_be_read_in_a_picture_too(name):
    paint = Paint(load(name), "16")
    terminal = snapshot.terminal(paint.theme.dark)
    for style in [*(paint.tint(level / 16) for level in range(17)), *map(paint.calm_tint, range(4))]:
        colors = style.color or Color.default(), style.bgcolor or Color.default()
        ink, ground = (tuple(each.get_truecolor(terminal, n == 0)) for n, each in enumerate(colors))
        assert contrast(ink, ground) >= 4.5, style


def test_a_size_is_that_of_all_that_name_none(replay, tmp_path):
    replay("--snapshot", tmp_path / "a.txt", "--snapshot", f"{tmp_path / 'b.txt'}@60x20", "--size", "80x24")
    rows = {name: (tmp_path / name).read_text().splitlines() for name in ("a.txt", "b.txt")}
    assert {name: (len(found), max(map(len, found))) for name, found in rows.items()} == {
        "a.txt": (24, 80),
        "b.txt": (20, 60),
    }


@pytest.mark.parametrize(
    ("wish", "answer"),
    [
        ("a.gif", "wanted FILE.svg, .png or .txt"),
        ("a.svg@9000x9000", "is no size"),
        ("a.svg@1x1", "is no size"),
        ("a.svg:token=41", "it has 40 tokens"),
        ("a.svg:token=0", "it has 40 tokens"),
        ("a.svg:token=x", "token=x cannot be"),
        ("a.svg:token=²", "wanted FILE.svg"),
        ("a.svg:layer=31", "it has 30 of them"),
        ("a.svg:head=0", "head=0 cannot be"),
        ("a.svg:head=10", "it has 9 of them"),
        ("a.svg:tint=joy", "tint=joy cannot be"),
        ("a.svg:run=9", "has no run 9"),
        ("a.svg:lane=3", "lane=3 cannot be"),
        ("a.svg:zoom=2", "zoom=2 cannot be"),
        ("a\nb", "wanted FILE.svg"),
        ("a.svg:page=none", "quadrants"),
        ("a.svg:colour=red", "there is no colour"),
        ("nowhere/a.svg", "cannot be written"),
    ],
)
def test_a_picture_that_cannot_be_is_answered_in_a_sentence(replay, tmp_path, wish, answer):
    status, said = replay("--snapshot", tmp_path / wish)
    of_the_file = answer.startswith("it has") or answer in ("cannot be written", "has no run 9")
    assert status == (3 if of_the_file else 2) and answer in said and said.count("\n") == 1


@pytest.mark.parametrize("wrong", ["b.txt:token=41", "b.gif", "b.txt@1x1", "b.txt:page=none", "nowhere/b.txt"])
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_of_several_pictures_all_are_written_or_none(replay, tmp_path, wrong, last):
    (tmp_path / "kept.txt").write_text("kept")
    wishes = ["a.txt", "kept.txt", wrong] if last else [wrong, "a.txt", "kept.txt"]
    status, said = replay(*(part for wish in wishes for part in ("--snapshot", tmp_path / wish)))
    assert status in (2, 3) and said.count("\n") == 1 and (status == 2 or "is written" in said)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]
    assert (tmp_path / "kept.txt").read_text() == "kept"


@pytest.mark.parametrize(
    ("run", "token", "said"),
    [
        (
            3,
            30,
            "token=30 is not in run 3: it has 5 tokens, counted from 1; take one of them, or --run 1, which has it",
        ),
        (3, 11, "or --run 2, which has it"),
        (3, 99, "take one of them, or another --run"),
        (1, 0, "token=0 is not in run 1: it has 40 tokens, counted from 1; take one of them, or another --run"),
    ],
)
def test_a_token_that_another_run_has_is_told_with_its_run(tmp_path, run, token, said):
    trace = Trace.open(recorded(tmp_path / "a.tui", *session(40), *session(12, run=2), *session(5, run=3)))
    with pytest.raises(UserError, match=said):
        snapshot.draw(trace, run, [Snapshot(tmp_path / "a.txt", (80, 24), token)], Paint())


def test_where_the_library_for_png_is_missing_it_says_which(replay, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    status, said = replay("--snapshot", tmp_path / "a.png")
    assert status == 3 and "pip install 'tui-entropy[png]'" in said


def test_a_png_is_as_large_as_the_svg(replay, tmp_path):
    pytest.importorskip("resvg_py")
    assert replay("--snapshot", tmp_path / "a.png")[0] == 0
    data = (tmp_path / "a.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and int.from_bytes(data[16:20]) > 120 * 12


@pytest.mark.parametrize("color", ["truecolor", "16", "mono"])
async def test_a_film_ends_on_the_screen_that_the_app_shows(file, color):
    clock = Clock()
    app = ReplayApp(Playback(Trace.open(file), first=30, clock=clock), paint=Paint(color=color), film=True)
    cast = Asciicast((80, 24), "", color)
    lines = [line async for moment in film.moments(app, clock, (80, 24)) for line in cast.lines(moment)]
    last = ReplayApp(Playback(Trace.open(file), first=None), paint=Paint(color=color), film=True)
    async with snapshot.on_stage(last, (80, 24)):
        last.come_to()
        expected = snapshot.as_text(snapshot.screen(last))
    terminal = Screen(80, 24)
    for line in lines:
        _, code, data = json.loads(line)
        if code == "o":
            terminal.feed(data.encode())
    assert terminal.text == expected.rstrip("\n")


def test_a_film_is_asciicast_2_in_true_time_with_a_marker_at_every_token(replay, tmp_path):
    for name in ("a.cast", "b.cast"):
        assert replay("--cast", tmp_path / name, "--size", "100x30", "--speed", 2) == (0, "")
    assert (tmp_path / "a.cast").read_bytes() == (tmp_path / "b.cast").read_bytes()
    header, *events = map(json.loads, (tmp_path / "a.cast").read_text().splitlines())
    assert header == {"version": 2, "width": 100, "height": 30, "title": "story.tui"}
    times = [at for at, _, _ in events]
    assert times == sorted(times) and {code for _, code, _ in events} == {"o", "m"}
    marks = [label for _, code, label in events if code == "m"]
    assert len(marks) == 40 and marks[3] == "token 4  Paris"
    assert times[-1] == pytest.approx((0.5 + 39 / RATE) / 2, abs=2 * film.FRAME)


def test_a_size_is_columns_by_rows():
    assert parse_size("80x24") == (80, 24)
    for wrong in ("80", "x", "-1x5", "80x24x3", "99999x10"):
        with pytest.raises(UserError, match="is no size"):
            parse_size(wrong)


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        (("--to", 3), "--cast"),
        (("--idle", 2), "--cast"),
        (("--size", "80x24"), "--cast or --snapshot"),
        (("--to", 3, "--snapshot", "a.txt"), "--cast"),
    ],
)
def test_an_option_of_films_alone_is_refused_where_none_is_asked_for(replay, options, needed):
    code, said = replay(*options)
    assert code == 2 and f"{options[0]} is for {needed}, which is not asked for" in said
