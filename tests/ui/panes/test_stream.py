from collections import Counter
from itertools import pairwise

import made
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_frames import frame_of
from msgspec.structs import replace
from rich.cells import cell_len
from textual.app import App, ComposeResult

from tui_entropy.metrics.registry import BY_NAME
from tui_entropy.records.events import PromptScores
from tui_entropy.state.run_view import Mark
from tui_entropy.state.session_view import SessionView
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.drawing.wrap import Flow
from tui_entropy.ui.panes.stream import TokenStream
from tui_entropy.ui.views.view import View

pieces = st.lists(st.text("ab 日é\n", min_size=1, max_size=9), max_size=30)


def flowed(texts: list[str], width: int) -> Flow:
    flow = Flow(width, "⏎")
    for owner, text in enumerate(texts):
        flow.add(text, owner)
    return flow


def rows(log: SessionView, width: int = 80, height: int = 20, **fields: object) -> list[str]:
    return [strip.text.rstrip() for strip in TokenStream().draw(frame_of(log, **fields), width, height)]


@given(pieces, st.integers(6, 30))
def test_every_letter_is_laid_out_once_and_in_order(texts, width):
    flow = flowed(texts, width)
    laid = "".join(text for line in flow.lines for text, _ in line)
    assert laid == "".join(texts).replace("\n", "⏎")
    assert all(sum(cell_len(text) for text, _ in line) <= flow.width for line in flow.lines)


@given(pieces, st.integers(6, 30))
def test_a_line_ends_only_at_a_newline_or_where_the_next_word_has_no_room(texts, width):
    flow = flowed(texts, width)
    lines = ["".join(text for text, _ in line) for line in flow.lines]
    for line, after in pairwise(lines):
        if after and not line.endswith("⏎"):
            narrow = after[: next((n for n, char in enumerate(after) if char in " ⏎日"), len(after))]
            assert cell_len(line) + cell_len(narrow or after[0]) > flow.width - 1


@given(pieces, st.integers(6, 30))
def test_adding_touches_the_last_line_only(texts, width):
    flow = Flow(width, "⏎")
    for owner, text in enumerate(texts):
        before = [list(line) for line in flow.lines]
        flow.add(text, owner)
        assert flow.lines[: len(before) - 1] == before[:-1]


def test_a_word_of_several_tokens_is_not_torn():
    flow = flowed([" one", " two", " unbe", "liev", "able"], 14)
    assert ["".join(text for text, _ in line) for line in flow.lines] == [" one two ", "unbelievable"]


def test_a_chat_shows_who_speaks_and_not_the_template():
    shown = rows(made.log(6))
    assert shown[1] == f"you  {made.PROMPT}"
    assert shown[3] == "model   The capital of France is Paris"
    assert not any("im_start" in row for row in shown)


def test_raw_shows_every_token_that_the_model_read():
    assert rows(made.log(0), raw=True)[1].startswith("<|im_start|>user⏎")


def test_a_template_it_does_not_know_falls_back_to_what_was_given():
    shown = rows(made.log(0, template=False, system="Be brief."))
    assert shown[1] == "system  Be brief." and shown[3] == f"you  {made.PROMPT}"


def test_a_system_prompt_that_the_template_adds_is_shown():
    text = "<|im_start|>system\nYou are kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    shown = rows(made.log(0, prompt_tokens=(made.PromptToken(1, text.encode(), text),)))
    assert shown[1:6] == ["system  You are kind.", "", "you  Hi", "", "model"]


SCORED = {"chat": {}, "raw": {"raw": True}, "unknown template": {}}


@pytest.mark.parametrize("way", SCORED)
def test_the_prompt_is_tinted_token_by_token_as_its_scores_come_in(way):
    log, stream = made.log(2, template=way != "unknown template"), TokenStream()
    frame = frame_of(log, tint=BY_NAME["surprisal"], **SCORED[way])
    hot = Paint().calm_tint(3)

    def tinted() -> str:
        strips = stream.draw(frame, 100, 9)[1:]
        return "".join(segment.text for strip in strips for segment in strip if segment.style == hot)

    frame.log.run.steps = made.kept(made.step(0, " calm", surprisal=0.0))
    assert tinted() == ""
    pieces = [piece.text for piece in log.started.prompt_tokens]
    at = pieces.index(" capital")
    score = [[0.0, 0.0, 99.0 * (n in (at, at + 2)), 1.0, 0.0, 0.0, 0.0] for n in range(1, len(pieces))]
    log.append(PromptScores(1, 1, made.grid(score[: at + 1])))
    assert tinted() == " capital"
    log.append(PromptScores(1, at + 2, made.grid(score[at + 1 :])))
    assert tinted() == " capital" + pieces[at + 2]


def test_a_series_that_the_prompt_does_not_have_leaves_it_plain():
    log = made.log(1)
    log.append(PromptScores(1, 1, made.grid([[9.0] * 7] * (len(log.started.prompt_tokens) - 1))))
    strip = TokenStream().draw(frame_of(log, tint=BY_NAME["final entropy"]), 100, 9)[1]
    assert {segment.style for segment in strip if segment.text in made.PROMPT} == {Paint().prompt}


def test_a_completion_goes_on_where_the_prompt_ends():
    assert rows(made.log(1, texts=[" lay"], prompt="Here", chat=False))[1] == "Here lay"


def test_a_change_is_marked_in_the_text_where_it_acts():
    assert "city┴ that" in " ".join(rows(made.log(12), width=100))


def test_a_change_told_late_is_marked_all_the_same():
    stream, log = TokenStream(), made.log(12, marks=False)
    stream.draw(frame_of(log), 100, 9)
    log.marks.append(Mark(3, "T 1→2"))
    assert " of┴ France" in stream.draw(frame_of(log), 100, 9)[3].text


def test_growing_draws_what_drawing_at_once_draws():
    whole = made.log(70)
    stream, grown = TokenStream(), made.log(0)
    grown.run.marks = whole.marks
    for step in whole.steps:
        grown.steps.append(step)
        shown = stream.draw(frame_of(grown), 40, 12)
    assert shown == TokenStream().draw(frame_of(whole), 40, 12)


def test_the_cursor_and_a_high_series_can_be_told_apart_without_colour():
    log = made.log(0)
    log.run.steps = made.kept(
        made.step(0, "calm", entropy=0.0), made.step(1, "wild", entropy=9.0), made.step(2, "here")
    )
    strip = TokenStream().draw(frame_of(log, paint=Paint(color="mono")), 80, 9)[3]
    style = {segment.text: segment.style for segment in strip}
    assert not style["calm"].underline and style["wild"].underline and style["here"].reverse


def test_the_legend_gives_name_distribution_and_unit_of_the_tint():
    title = rows(made.log(3), width=100, tint=BY_NAME["surprisal"], bits=False, relative=False)[0]
    assert "tint: surprisal (model)" in title and title.count(" 5.55 nats") == 1


def test_a_character_in_parts_shows_once_whole_and_takes_the_cursor_from_each_part():
    log = made.log(0)
    for n, (data, text) in enumerate([(b"\xf0\x9f", ""), (b"\x98\x80", "😀"), (b"\xe2", "")]):
        log.append(replace(made.step(n, data), text=text))
    for cursor, under in ((0, "😀"), (1, "😀"), (2, " ")):
        strip = TokenStream().draw(frame_of(log, cursor=cursor), 80, 9)[3]
        assert [segment.text for segment in strip if segment.style.bgcolor == Paint().cursor.bgcolor] == [under]


@pytest.mark.parametrize(("ascii", "name"), [(False, "‹token 49160›"), (True, "<token 49160>")])
def test_a_token_without_text_is_called_by_its_number_and_takes_the_cursor(ascii, name):
    log = made.log(0)
    for n, text in enumerate([" a", "", " b"]):
        log.append(replace(made.step(n, text), token_id=49160))
    paint = Paint(ascii=ascii)
    strip = TokenStream().draw(frame_of(log, cursor=1, paint=paint), 80, 9)[3]
    assert [segment.text for segment in strip if segment.style.bgcolor == paint.cursor.bgcolor] == [name]
    assert f"{name} b" in strip.text


class Stage(App[None]):
    """One stream on a screen, and what it asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def compose(self) -> ComposeResult:
        yield TokenStream()

    def on_view_cursor_asked(self, message: View.CursorAsked) -> None:
        self.asked.append(message.index)


@pytest.fixture
def long() -> SessionView:
    return made.log(300, texts=[f" w{n:03}" for n in range(300)], marks=False)


def shown(stream: TokenStream) -> str:
    return "\n".join(stream.render_line(y).text for y in range(stream.size.height))


async def test_it_follows_the_end_until_scrolled_and_again_at_the_end(long):
    app = Stage()
    async with app.run_test(size=(40, 12)):
        stream = app.query_one(TokenStream)
        stream.styles.height = 12
        stream.show(frame_of(long))
        await app.animator.wait_until_complete()
        assert "w299" in shown(stream)
        stream.page(-2)
        before = shown(stream)
        assert "w299" not in before
        long.append(made.step(300, " new"))
        stream.show(frame_of(long))
        assert shown(stream).split("\n")[1:] == before.split("\n")[1:]
        stream.begin_with(None)
        assert "new" in shown(stream)


async def test_the_cursor_is_brought_into_view_and_the_page_else_stays(long):
    app = Stage()
    async with app.run_test(size=(40, 12)):
        stream = app.query_one(TokenStream)
        stream.styles.height = 12
        stream.show(frame_of(long))
        stream.show(frame_of(long, cursor=290, following=False))
        held = stream.top
        stream.show(frame_of(long, cursor=289, following=False))
        assert stream.top == held
        stream.show(frame_of(long, cursor=100, following=False))
        assert "w100" in shown(stream)
        stream.show(frame_of(long))
        assert "w299" in shown(stream)


async def test_a_click_asks_for_the_token_under_it(long):
    app = Stage()
    async with app.run_test(size=(60, 12)) as pilot:
        stream = app.query_one(TokenStream)
        stream.styles.height = 12
        await pilot.pause()
        stream.show(frame_of(long))
        row = next(y for y in range(12) if "w290" in stream.render_line(y).text)
        column = stream.render_line(row).text.index("w290")
        await pilot.click(TokenStream, offset=(column, row))
        assert app.asked == [290]


def test_a_token_costs_the_same_in_a_long_text(monkeypatch):
    stream, log = TokenStream(), made.log(0)
    one = made.step(0, " word")
    log.run.steps = made.kept(*[one] * 10_000)
    stream.draw(frame_of(log), 100, 40)
    work = Counter()
    for owner, name in ((Paint, "row"), (Flow, "add"), (Paint, "tint")):
        real = getattr(owner, name)
        monkeypatch.setattr(
            owner, name, lambda *a, real=real, name=name, **k: (work.update([name]), real(*a, **k))[1]
        )
    for _ in range(40):
        log.steps.append(one)
        stream.draw(frame_of(log), 100, 40)
    assert work["add"] == 40 and work["tint"] <= 40 * 9 and work["row"] <= 40 * 4
