"""Options of a probe as a person types them in one line."""

import pytest

from tui_entropy.records.probes.ask import ProbeInfo, ProbeOption
from tui_entropy.records.probes.options import options_text, read_options, words_of

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
