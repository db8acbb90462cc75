"""What a token looked at: the pane of rows, and the text tinted by one of them; live and as it is recorded."""

import math

import made
import pytest
from asking import rows_answer
from drawn_rows import rows
from inspectors import begun, ready, settled, up, writing
from made_frames import frame_of
from msgspec.structs import replace

from tui_entropy.records.commands import SelectHead
from tui_entropy.records.events import HeadSelected
from tui_entropy.records.probes.attention_rows import AttentionRows
from tui_entropy.records.quantised_rows import QuantisedRows
from tui_entropy.state.session_view import SessionView
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.panes.attention import LABEL, SINK_WIDTH, AttentionMap, asking
from tui_entropy.ui.panes.stream import TokenStream
from tui_entropy.ui.views.tint_scale import ROW_SHARES, AttentionTint, attention_tint

PLAIN = Paint(color="mono", ascii=True)
WINDOW = "n_queries", "first_key", "n_keys"
KEYS = LABEL + SINK_WIDTH
"""The column of the first key that is drawn."""


def looked(log: SessionView, weights: list[list[float]], first_key: int = 0, elsewhere: float = 0.0) -> SessionView:
    queries = tuple(range(10, 10 + len(weights)))
    found = AttentionRows(29, None, queries, first_key, made.grid(weights), (elsewhere,) * len(queries))
    log.append(rows_answer(found))
    return log


def drawn(log, width=80, height=8, **fields):
    return AttentionMap().draw(frame_of(log, **fields), width, height)


# --- The rows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("paint", [Paint(), Paint(color="16"), PLAIN])
def test_each_row_has_one_token_and_that_of_the_cursor_stands_out(paint):
    log = looked(made.log(9), [[0.5, 0.5]] * 3)
    strips = drawn(log, paint=paint)
    names = [token.token_bytes.decode().strip() for token in log.started.prompt_tokens[10:13]]
    labels = [strip.text[: LABEL - 1] for strip in strips[1:4]]
    assert all(name[:6] in label for name, label in zip(names, labels, strict=True))
    assert [label.startswith(paint.drawn) for label in labels] == [False, False, True]
    if paint.color != "mono":
        styles = [next(iter(strip)).style for strip in strips[1:4]]
        assert styles[0] == styles[1] != styles[2]


def test_a_row_is_scaled_to_its_largest_weight_but_the_first_keys_which_has_a_column_of_its_own():
    weights = [[0.9, 0.01, 0.04, 0.0, 0.05], [0.1, 0.2, 0.4, 0.3, 0.0]]
    shown = rows(AttentionMap(), looked(made.log(9), [[*row, *[0.0] * 7] for row in weights]), 80, 8, paint=PLAIN)
    assert "row max" in shown[0] and "first key apart" in shown[0]
    quiet, loud = shown[1], shown[2]
    assert [row[LABEL] for row in (quiet, loud)] == ["#", " "]  # 0.9 and 0.1, of the whole row
    assert quiet[KEYS : KEYS + 4] == ".* #" and loud[KEYS : KEYS + 4] == "=#* "
    assert (quiet.split()[-1], loud.split()[-1]) == ("0.05", "0.40")
    assert "first key" in shown[3]


def test_the_strongest_keys_are_named_with_their_weights_wherever_they_stand():
    log = looked(made.log(9), [[0.1, 0.6, 0.2, 0.05]], elsewhere=0.05)
    last = rows(AttentionMap(), log, 80, 8)[-1]
    assert "looks at" in last and "first key 0.10" in last and last.index("0.60") < last.index("0.20")
    long = made.log(300)
    query = long.steps[-1].position - 1
    row = [0.0] * (query + 1)
    row[4], row[query] = 0.7, 0.3
    long.append(rows_answer(AttentionRows(29, None, (query,), 0, made.grid([row]), (0.0,))))
    assert "0.70" in rows(AttentionMap(), long, 60, 8)[-1]  # far out of what is drawn


def test_what_is_not_named_is_a_number():
    log = looked(made.log(9), [[0.2, *[0.05] * 10]], elsewhere=0.3)
    assert "others 0.40" in rows(AttentionMap(), log, 120, 8)[-1]


def test_a_first_key_that_a_window_hides_has_no_weight():
    log = looked(made.log(9), [[math.nan, math.nan, 0.75, 0.25]])
    shown = rows(AttentionMap(), log, 80, 8, paint=PLAIN)
    assert shown[1][LABEL] == " " and "first key 0" not in shown[-1]


def test_why_there_are_no_rows_is_said():
    log = made.log(9)
    log.append(rows_answer(replace(made.attention(), queries=(), unavailable="layer 3 has no attention")))
    assert "layer 3 has no attention" in rows(AttentionMap(), log, 60, 8)[1]


@pytest.mark.parametrize("paint", [Paint(), PLAIN])
@pytest.mark.parametrize("size", [(60, 5), (67, 10), (130, 40)])
def test_what_it_asks_for_fills_the_pane_and_has_every_key(paint, size):
    log = made.log(200)
    ask = asking(frame_of(log, paint=paint), size[1])
    last, n_queries, first_key, n_keys = ask.position - 1, *(ask.options[name] for name in WINDOW)
    assert (first_key, last) == (0, log.steps[-1].position - 1) and n_keys == last + 1
    log.append(rows_answer(made.attention(n_queries, n_keys, last, first_key)))
    strips = drawn(log, *size, paint=paint)
    assert len(strips) == n_queries + 3 == size[1]
    assert all(strip.cell_length <= size[0] and not strip.text.endswith("…") for strip in strips)


# --- As they are recorded --------------------------------------------------------------------------------------


def test_a_recording_shows_the_rows_of_the_head_that_was_recorded_and_else_the_mean_and_says_which():
    log = made.recorded_log()
    of_head = rows(AttentionMap(), log, 80, 8, layer=17, head=2, played="replay")
    assert "layer 17 head 2" in of_head[0] and "top 24" in of_head[0] and "first key 0.20" in of_head[-1]
    assert len(of_head) == 8  # five rows: as many steps as there is room for
    mean = rows(AttentionMap(), log, 100, 8, layer=17, head=None, played="replay")
    assert "layer 17 mean of heads" in mean[0] and "first key 0.50" in mean[-1]
    other = rows(AttentionMap(), log, 120, 8, layer=17, head=3, played="replay")
    assert "mean of heads" in other[0] and "head 3 is not recorded" in other[0]
    assert "first key 0.50" in other[-1]


@pytest.mark.parametrize("head", [None, 2])
def test_the_title_says_the_scale_and_where_the_first_key_is_in_a_pane_of_a_screen_of_two_columns(head):
    title = rows(AttentionMap(), made.recorded_log(), 70, 8, layer=17, head=head, played="replay")[0]
    assert "row max" in title and "first" in title and "apart" in title and "top 24" in title


def test_only_rows_of_the_same_head_stand_together():
    log = made.recorded_log(4)
    early = made.top_rows({0: 0.5, 3: 0.5})
    log.append(made.step(4, attention_rows=early, position=log.steps[-1].position + 1))
    log.append(made.step(5, attention_rows=log.steps[3].attention_rows, position=log.steps[-1].position + 1))
    shown = rows(AttentionMap(), log, 80, 12, layer=17, head=2, played="replay")
    assert "head 2" in shown[0] and len(shown) == 1 + 1 + 2


def test_a_recording_says_in_a_sentence_what_it_lacks():
    without = made.recorded_log(attention_rows=None)
    assert "No attention rows are recorded" in rows(AttentionMap(), without, 100, 8, played="replay")[1]
    other = made.recorded_log(attention_rows=QuantisedRows(b"abc", "cube4"))
    assert "update tui-entropy" in rows(AttentionMap(), other, 160, 8, played="replay")[1]
    mamba = made.recorded_log()
    kinds = ("mamba", *mamba.card.layer_kinds[1:])
    mamba.card = replace(mamba.card, attention=(False, *mamba.card.attention[1:]), layer_kinds=kinds)
    mamba_rows = QuantisedRows(b"", mamba.steps[0].attention_rows.form)
    mamba.append(replace(made.step(9), attention_rows=mamba_rows))
    assert "Block 1 has no attention rows (mamba)" in rows(AttentionMap(), mamba, 100, 8, layer=1, played="r")[1]


def test_where_an_engine_has_let_go_of_a_row_the_recorded_one_is_shown():
    log = made.recorded_log()
    log.append(rows_answer(replace(made.attention(), queries=(), unavailable="of this token no query is kept")))
    assert "top 24" in rows(AttentionMap(), log, 80, 8, layer=17, head=2)[0]


# --- The text, tinted ------------------------------------------------------------------------------------------


def spans(log, paint=None, width=80, **fields):
    """(text, style) of every part of the text."""
    look = {"attention_tint": True, "paint": paint or Paint(), "layer": 17, **fields}
    strips = TokenStream().draw(frame_of(log, **look), width, 30)
    return strips[0].text, [(segment.text, segment.style) for strip in strips[1:] for segment in strip]


def style_of(parts, text):
    return next(style for words, style in parts if text in words)


def test_the_text_is_tinted_by_what_the_token_under_the_cursor_looked_at_over_the_prompt_too():
    paint, log = Paint(), made.recorded_log()
    title, parts = spans(log, paint, head=None, raw=True, cursor=6)
    assert "attention, layer 17 mean of heads" in title
    prompt = [token.token_bytes.decode() for token in log.started.prompt_tokens]
    assert style_of(parts, prompt[3].strip()) == paint.calm_tint(3)  # the most
    assert style_of(parts, made.WORDS[5].strip()) == paint.calm_tint(2)  # a third of it, one before the cursor
    assert style_of(parts, "city") == paint.base
    _, elsewhere = spans(log, paint, head=2, raw=True, cursor=6)
    assert style_of(elsewhere, made.WORDS[5].strip()) == paint.calm_tint(3)
    assert style_of(elsewhere, prompt[3].strip()) == paint.prompt


def test_the_first_token_is_drawn_as_such_and_never_hot():
    paint, log = Paint(), made.recorded_log()
    title, parts = spans(log, paint, head=None, raw=True, cursor=6, width=120)
    first = log.started.prompt_tokens[0].token_bytes.decode()
    style = style_of(parts, first)
    assert style.underline and style.bgcolor not in {paint.calm_tint(step).bgcolor for step in (1, 2, 3)}
    assert "first token 0.50" in title


def test_the_legend_says_the_weights_at_which_its_steps_begin():
    tint = AttentionTint("attention, layer 1 head 1", {3: 0.5, 4: 0.2, 5: 0.06, 6: 0.01}, 0.2)
    text = "".join(part for part, _ in tint.legend(Paint(), bits=True))
    assert [share in text for share in ("0.05", "0.15", "0.30")] == [True] * 3
    assert [tint.step(key) for key in (3, 4, 5, 6, 7)] == [3, 2, 1, 0, 0] and len(ROW_SHARES) == 3


def test_without_a_row_nothing_is_tinted_and_the_title_says_so():
    log = made.log(5)
    title, parts = spans(log, cursor=3, head=2)
    assert "not known here" in title
    calm = {Paint().calm_tint(step).bgcolor for step in (1, 2, 3)}
    assert not any(style and style.bgcolor in calm for _, style in parts)


def test_an_answer_of_the_engine_is_taken_only_for_the_token_and_the_head_that_it_is_of():
    log = made.log(9)
    query = log.steps[5].position - 1
    row = [0.25] * 4 + [0.0] * (query - 3)
    log.append(rows_answer(AttentionRows(29, 4, (query,), 0, made.grid([row]), (0.0,))))
    there = attention_tint(frame_of(log, cursor=5, head=4))
    assert there.weights[3] == 0.25 and there.sink == 0.25
    for elsewhere in ({"cursor": 6, "head": 4}, {"cursor": 5, "head": 3}, {"cursor": 5, "head": 4, "layer": 28}):
        assert not attention_tint(frame_of(log, **elsewhere)).weights


async def test_the_tint_key_comes_to_attention_last_and_goes_on_to_the_first_series():
    app = up()
    async with app.run_test(size=(80, 24)) as pilot:
        await writing(app, pilot)
        tints = []
        for _ in range(8):
            tints.append("attention" if app.frame.attention_tint else app.frame.tint.name)
            await pilot.press("c")
        assert tints.count("attention") == 1 and tints.index("attention") == len(set(tints)) - 1
        assert tints[tints.index("attention") + 1] == tints[0]


async def test_it_is_asked_for_also_where_the_pane_is_not_on_screen():
    app = up()
    asked = []
    app.tell = asked.append
    async with app.run_test(size=(80, 24)) as pilot:
        await writing(app, pilot)
        assert not app.attention.display and not [ask for ask in asked if getattr(ask, "name", "") == "attention"]
        app.show(attention_tint=True)
        await settled(app, pilot)
        (ask,) = [ask for ask in asked if getattr(ask, "name", "") == "attention"]
        assert ask.options["first_key"] == 0 and ask.options["n_queries"] == 1


# --- Which head ------------------------------------------------------------------------------------------------


def selections(app):
    return [order for order in app.sent if isinstance(order, SelectHead)]


async def test_the_screen_is_at_the_head_that_the_log_says_until_a_person_chooses_and_tells_the_engine_then():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        start, *steps = begun()
        rows = made.top_rows({0: 0.5, 1: 0.5})
        app.take([ready(), start, *(replace(step, attention_rows=rows) for step in steps)])
        app.take([HeadSelected(3, 2, by_score=True)])
        await settled(app, pilot)
        assert (app.frame.layer, app.frame.head) == (3, 2) and not selections(app)
        await pilot.press("}")
        await settled(app, pilot)
        assert selections(app) == [SelectHead(3, 3)]
        app.take([HeadSelected(3, 3)])
        await settled(app, pilot)
        assert selections(app) == [SelectHead(3, 3)]
        app.take([HeadSelected(1, 1)])  # by another screen, which was in control meanwhile
        await settled(app, pilot)
        assert (app.frame.layer, app.frame.head) == (3, 3) and selections(app)[1:] == [SelectHead(3, 3)]


async def test_an_engine_that_records_no_rows_is_told_of_no_head():
    app = up()
    async with app.run_test(size=(120, 36)) as pilot:
        await writing(app, pilot)
        await pilot.press("}")
        await settled(app, pilot)
        assert app.frame.own_head and not selections(app)


def test_a_head_that_the_model_has_not_is_not_gone_to():
    log = made.log(5)
    log.append(HeadSelected(99, 2))
    assert (frame_of(log).with_head.layer, frame_of(log).with_head.head) == (29, None)
