"""A comparison as results to be looked at: how numbers are spread, the tokens where two part most, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tui_entropy.analysis.comparison.report import PERCENTILES, ComparisonReport
from tui_entropy.analysis.text_windows import TextWindow, spelled, window_results
from tui_entropy.engine.scoring.comparison import NUMBERS, Apart
from tui_entropy.engine.tokenization.tokenizer import Tokenizer
from tui_entropy.records.corpus.results import (
    Curve,
    CurveChart,
    Listing,
    Opening,
    Results,
    Row,
    SteeredModel,
)
from tui_entropy.records.probes.panels import OF_ROW, UNIT, Cell, Column

LISTED = 200
"""Tokens that are listed, those that part most first."""
ALONG = 400
"""Places of the curve along the texts; of several tokens in one the largest shows."""


def results_of(
    report: ComparisonReport,
    windows: Sequence[TextWindow],
    found: Sequence[Apart],
    names: Sequence[str],
    models: tuple[SteeredModel, SteeredModel],
    tokenizer: Tokenizer,
) -> Results:
    """names: of the texts."""
    places = [(at, one.first + n, n) for at, one in enumerate(windows) for n in range(one.n_scored)]
    numbers = np.concatenate([one.numbers.double().numpy() for one in found])
    of = dict(zip(NUMBERS, numbers.T, strict=True))

    def row(at: int) -> Row:
        window, position, n = places[at]
        ids = windows[window].ids
        opens = Opening(window, position), Opening(window, position, 1)
        cells: tuple[Cell, ...] = (
            float(of["kl"][at]), spelled((ids[position],), tokenizer),
            *(spelled((int(found[window].ids[n, side, 0]),), tokenizer) for side in (0, 1)),
            float(of["p_a"][at]), float(of["p_b"][at]), spelled(windows[window].before(position), tokenizer),
        )  # fmt: skip
        return Row(cells, _candidates(found[window], n, tokenizer, opens), opens)

    texts = window_results(windows, names, tokenizer)
    apart = {
        "KL of B from A": of["kl"],
        "surprisal, B less A": np.abs(of["surprisal_b"] - of["surprisal_a"]),
        "probability of what came, B less A": np.abs(of["p_b"] - of["p_a"]),
        "entropy, B less A": np.abs(of["entropy_b"] - of["entropy_a"]),
    }
    rows = tuple(
        Row(
            (each.name, each.unit, each.mean, each.mean_error, *each.percentiles, each.most),
            _worst(each.name, apart[each.name], row) if each.name in apart else None,
            chart=0 if each.name not in apart else list(apart).index(each.name),
        )
        for each in report.spreads
    )
    measured = ("mean", "error", *(f"{at} %" for at in PERCENTILES), "most")
    columns = Column("what"), Column("unit", UNIT), *(Column(name, OF_ROW) for name in measured)
    same, error = 100 * report.same_top, 100 * report.same_top_error
    note = (
        f"A is {report.a}; B is {report.b}. Over {report.n} tokens both hold the same one for most probable at "
        f"{same:.2f} % (standard error {error:.2f}). Perplexity {report.perplexity_a:.4g} and "
        f"{report.perplexity_b:.4g}."
    )
    charts = tuple(_along(name, values) for name, values in apart.items())
    return Results("two over one text", models, texts, charts, Listing("A and B", columns, rows, note))


def _worst(name: str, sizes: np.ndarray, row: Callable[[int], Row]) -> Listing:
    columns = (
        Column("KL", "nats"), Column("there is"), Column("A says"), Column("B says"), Column("p A", "share"),
        Column("p B", "share"), Column("behind"),
    )  # fmt: skip
    order = np.argsort(-sizes, kind="stable")[:LISTED].tolist()
    note = f"The first {len(order)} of {len(sizes)}, those where they part most first."
    return Listing(f"{name}: where they part most", columns, tuple(map(row, order)), note)


def _candidates(found: Apart, n: int, tokenizer: Tokenizer, opens: tuple[Opening, ...]) -> Listing:
    """What either holds for most probable, with both probabilities, side by side."""
    p = {
        int(token): (float(both[0]), float(both[1]))
        for side in (0, 1)
        for token, both in zip(found.ids[n, side], found.p[n, side], strict=True)
    }
    rows = tuple(
        Row((spelled((token,), tokenizer), a, b, b - a), opens=opens)
        for token, (a, b) in sorted(p.items(), key=lambda one: -max(one[1]))
    )
    columns = Column("candidate"), Column("p A", "share"), Column("p B", "share"), Column("B less A", "share")
    return Listing("candidates side by side", columns, rows, "enter opens the text by A, 2 opens it by B.")


def _along(name: str, values: np.ndarray) -> CurveChart:
    """The largest of each place along the texts."""
    parts = np.array_split(values, min(len(values), ALONG))
    x = np.cumsum([0, *map(len, parts[:-1])])
    curve = Curve("", tuple(map(float, x)), tuple(float(part.max()) for part in parts))
    unit = "share" if name.startswith("probability") else "nats"
    return CurveChart(f"{name}, along the texts", "tokens", Column("size", unit), (curve,))
