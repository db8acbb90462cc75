"""The figure: what is drawn, in which unit, and that nothing of it is read as a formula."""

import math

import exports
import pytest
from msgspec.structs import replace
from scripted import started, step

from tui_entropy.export import figure as figure_
from tui_entropy.export.recorded_run import open_recording
from tui_entropy.records.arrays import Grid
from tui_entropy.records.events import Ended, VectorsChanged
from tui_entropy.records.settings import Vector


@pytest.mark.parametrize(("bits", "units"), [(False, ("nats", "nats²")), (True, ("bits", "bits²"))])
def test_the_axes_say_what_they_show_and_in_which_unit(tmp_path, bits, units):
    figure = figure_.figure(open_recording(exports.trace(tmp_path / "run.tui"), None, bits))
    entropy, varentropy, surprisal, heads, _, norms = figure.axes
    labels = [axes.get_ylabel() for axes in (entropy, varentropy, surprisal)]
    assert labels == [f"entropy ({units[0]})", f"varentropy ({units[1]})", f"surprisal ({units[0]})"]
    assert (heads.get_xlabel(), heads.get_ylabel()) == ("head", "layer")
    assert (norms.get_xlabel(), norms.get_ylabel()) == ("block", "residual stream (L2 norm)")
    highest = max(step(n).entropy for n in range(6))
    drawn = entropy.collections[0].get_paths()[0].vertices[:, 1].max()
    assert drawn == pytest.approx(highest / math.log(2) if bits else highest)


def test_marks_stand_before_the_token_they_act_on_even_if_they_look_like_formulas(tmp_path):
    odd = Vector("$\\frac", "file", (1,), 1.0, True)
    steps = [started(), step(0), VectorsChanged(1, 1, (odd,)), step(1)]
    recording = open_recording(exports.trace(tmp_path / "run.tui", steps), None, False)
    first = figure_.figure(recording).axes[0]
    assert [line.get_xdata()[0] for line in first.lines] == [1.5]
    assert [text.get_text() for text in first.texts] == ["$\\frac on +1"]
    assert plots_of(recording, tmp_path).startswith(b"<?xml")


@pytest.mark.parametrize("every", [1, 2, 5], ids=lambda n: f"every {n}")
def test_no_label_covers_another_nor_the_title(tmp_path, every):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    events = [started()]
    for n in range(60):
        if n % every == 0:
            events.append(VectorsChanged(1, n, (Vector("WIDE NAME", "file", (1,), n + 1.0, True),)))
        events.append(step(n))
    recording = open_recording(exports.trace(tmp_path / "run.tui", events), None, False)
    with figure_.rc():
        figure = figure_.figure(recording)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [*figure.axes[0].texts, figure._suptitle]
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in texts]
    assert len(boxes) > 6
    for n, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[n + 1 :]), texts[n].get_text()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1


def test_heads_are_the_mean_over_tokens_and_blank_without_attention(tmp_path):
    grid = [[math.log(3), 0.0], [math.nan] * 2, [math.log(3)] * 2]
    one, two = replace(step(0), head_entropy=Grid.of(grid)), replace(step(1), visible_keys=(None,) * 3)
    recording = open_recording(exports.trace(tmp_path / "run.tui", [started(), one, two]), None, False)
    picture = figure_.figure(recording).axes[3].images[0].get_array()
    assert picture[0].tolist() == [pytest.approx(1.0), 0.0] and picture.mask[1].all()


def test_the_same_run_makes_the_same_svg(tmp_path):
    recording = open_recording(exports.trace(tmp_path / "run.tui"), None, False)
    assert plots_of(recording, tmp_path) == plots_of(recording, tmp_path)


def test_a_run_without_a_token_can_be_drawn(tmp_path):
    recording = open_recording(exports.trace(tmp_path / "run.tui", [started(), Ended(1, "stopped")]), None, False)
    with open(tmp_path / "run.png", "wb") as file:
        figure_.png(recording, file)
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")


def plots_of(recording, folder) -> bytes:
    with open(folder / "run.svg", "wb") as file:
        figure_.svg(recording, file)
    return (folder / "run.svg").read_bytes()
