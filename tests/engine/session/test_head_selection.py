"""The head whose rows are recorded: found once by what the heads do, then only as a person says."""

import pytest
from small import endless
from small import loaded as small_model
from teller import Teller

from tui_entropy.core.errors import UserError
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.records.events import HeadSelected


@pytest.fixture(scope="module")
def llama():
    return endless(small_model("llama"))


def selections(teller):
    return [event for event in teller.events if isinstance(event, HeadSelected)]


def test_one_is_found_as_soon_as_enough_is_read_and_it_stays_also_in_other_runs(llama):
    with open_instruments(llama, record="shown") as instruments:
        teller = Teller(llama, instruments)
        teller.write(5)
        assert selections(teller) == [] and teller.log.steps[4].attention_rows.shown is None
        teller.write(20)
        (found,) = selections(teller)
        assert found.by_score and teller.log.head == found
        assert teller.log.steps[24].attention_rows.shown == (found.layer, found.head)
        teller.branch(3)
        teller.write(20)
        assert selections(teller) == [found]


def test_a_person_chooses_before_and_after_and_nothing_else_does(llama):
    with open_instruments(llama, record="shown") as instruments:
        teller = Teller(llama, instruments)
        teller.session.heads.select(3, 2)
        teller.write(30)
        teller.session.heads.select(2, None)
        teller.write(2)
        assert selections(teller) == [HeadSelected(3, 2), HeadSelected(2, None)]
        shown = [step.attention_rows.shown for step in teller.log.steps]
        assert shown[:30] == [(3, 2)] * 30 and shown[-1] is None


@pytest.mark.parametrize("record", ["off", "all"])
def test_nothing_is_told_where_no_single_head_is_recorded(llama, record):
    with open_instruments(llama, record=record) as instruments:
        teller = Teller(llama, instruments)
        teller.session.heads.select(3, 2)
        teller.write(30)
        assert selections(teller) == []


@pytest.mark.parametrize(("layer", "head"), [(5, 1), (4, 5), (5, None), (0, 1), (1, 0)])
def test_a_head_that_is_not_there_is_refused_in_a_sentence(llama, layer, head):
    with open_instruments(llama, record="shown") as instruments:
        teller = Teller(llama, instruments)
        with pytest.raises(UserError, match="4 blocks with 4 heads"):
            teller.session.heads.select(layer, head)


def test_looking_for_it_leaves_the_text_as_it_is(llama):
    written = []
    for record in ("off", "shown"):
        with open_instruments(llama, record=record) as instruments:
            written.append(Teller(llama, instruments).write(30))
    assert written[0] == written[1]
