"""The probe of attention: what its newest row looked at most, by name, with the first token apart and with it."""

import numpy as np
import probed
import pytest

from tui_entropy.records.probes.attention_rows import AttentionRows
from tui_entropy.records.probes.panels import Heatmap, Table


@pytest.fixture(scope="module")
def session():
    with probed.written(probed.of_family("llama")) as session:
        yield session


def test_the_keys_that_were_looked_at_most_are_told_by_name(session):
    weights, _, table = probed.asked(session, "attention", layer=2, head=1).panels
    assert isinstance(weights, Heatmap) and isinstance(table, Table)
    row = weights.values.numpy()[-1]
    told = {position: (token, weight, apart) for token, position, weight, apart in table.rows}
    assert list(told) == np.argsort(-row, kind="stable")[: len(told)].tolist()
    ids = session.state.run_of(1).sequence.ids
    assert all(token.ids == (int(ids[at]),) for at, (token, _, _) in told.items())
    assert all(weight == pytest.approx(row[at]) for at, (_, weight, _) in told.items())
    assert all((apart is None) == (at == 0) for at, (_, _, apart) in told.items())
    assert all(apart == pytest.approx(row[at] / (1 - row[0])) for at, (_, _, apart) in told.items() if at)


def test_keys_outside_the_window_are_among_them(session):
    all_of_them = probed.asked(session, "attention", layer=2).panels[-1]
    few = probed.asked(session, "attention", layer=2, first_key=1, n_keys=1, n_queries=1)
    assert few.panels[0].values.shape == (1, 1) and few.panels[-1] == all_of_them
    assert AttentionRows.of(few).first_key == 1  # panes read it as before
