"""Options of a probe as a person types them in one line."""

import pytest

from tui_entropy.records.probes.ask import ProbeInfo, ProbeOption
from tui_entropy.records.probes.options import help_on, options_text, read_options, words_of

PROBE = ProbeInfo("p", "", "", (ProbeOption("into", "", ""), ProbeOption("k", "", 5), ProbeOption("says", "", True)))


@pytest.mark.parametrize(
    "values",
    [{"into": "The capital of Italy is", "k": 7}, {"k": 1, "into": "a = b", "says": False}, {}],
)
def test_a_line_of_options_with_texts_is_read_as_it_was_written(values):
    assert read_options(PROBE, words_of(PROBE, options_text(values))) == values


def test_what_names_no_option_is_refused():
    with pytest.raises(ValueError, match="sets nothing of p"):
        read_options(PROBE, words_of(PROBE, "what"))


def test_a_token_is_typed_as_an_id_or_a_text():
    probe = ProbeInfo("p", "", "", (ProbeOption("token", "", None, low=0, text=True), ProbeOption("k", "", None, 0)))
    assert read_options(probe, ["token=7"]) == {"token": 7}
    assert read_options(probe, ["token= London"]) == {"token": " London"}
    assert read_options(probe, ["token=none"]) == {"token": None}
    with pytest.raises(ValueError, match="token is a text or a whole number"):
        read_options(probe, ["token="])
    with pytest.raises(ValueError, match="k is at least 0"):
        read_options(probe, ["k=London"])


def test_whoever_types_options_is_told_what_the_last_one_means_and_can_be():
    at = ProbeOption("at", "Where it is read.", "block", choices=("attention", "block"))
    probe = ProbeInfo("p", "", "", (at, ProbeOption("k", "How many.", 5, 1, 20)))
    assert help_on(probe, "") == "NAME=VALUE with spaces between, of at, k"
    assert help_on(probe, "at=attention") == "Where it is read. It is one of attention, block; at=block by default."
    assert help_on(probe, "at=attention k=7") == "How many. It is between 1 and 20; k=5 by default."
