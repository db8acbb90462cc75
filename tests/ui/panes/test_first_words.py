"""What stands where a text will appear until there is one."""

import pytest
from cards import CARD
from drawn_rows import rows
from made_frames import PAINTS
from msgspec.structs import replace
from scripted import logged, started, step

from tui_entropy.records.events import Ended, Labelled, Ready
from tui_entropy.records.model import ServerCard, ServerSpec
from tui_entropy.ui.pages.runs.branches import Branches
from tui_entropy.ui.panes.candidates import Candidates
from tui_entropy.ui.panes.knobs import KnobStrip
from tui_entropy.ui.panes.status import Status
from tui_entropy.ui.panes.stream import TokenStream

URL = "http://127.0.0.1:8001/v1"
PROXY = replace(
    CARD,
    server=ServerCard(
        "openai", "a server behind a proxy", "http://far:9", 0, spec=ServerSpec("http://far:9", proxied=True)
    ),
)
READY = Ready(PROXY, endpoint=URL)


def text(view, log, width=80, height=24, **fields):
    return "\n".join(rows(view, log, width, height, **fields))


@pytest.mark.parametrize("paint", PAINTS)
@pytest.mark.parametrize(("width", "height"), [(70, 24), (80, 24), (80, 8)])
def test_a_proxy_tells_its_address_and_a_request_to_try(paint, width, height):
    shown = text(TokenStream(), logged(READY), width, height, paint=paint)
    assert URL in shown and "http://far:9" in shown and f"curl {URL}/chat/completions" in shown
    assert all(f'"{name}"' in shown for name in ("messages", "stream", "logprobs", "top_logprobs"))
    assert "waiting for a request" in text(Status(), logged(READY), 120, 1, paint=paint)


def test_an_endpoint_over_an_engine_tells_its_address_too():
    shown = text(TokenStream(), logged(Ready(CARD, endpoint=URL)))
    assert URL in shown and "This model answers" in shown and "unchanged" not in shown
    assert '-H "authorization: Bearer $OPENAI_API_KEY"' in shown


def test_knobs_are_those_that_were_asked_for():
    assert "each request brings its own" in text(KnobStrip(), logged(READY), 120, 2)
    assert "the request set none" in text(KnobStrip(), logged(READY, replace(started(), given_knobs=())), 120, 2)
    began = replace(started(), given_knobs=("temperature",))
    shown = text(KnobStrip(), logged(READY, began), 120, 2)
    assert "T 0.70" in shown and "top-k" not in shown and "all else as the server has it" in shown
    assert "seed" not in text(Status(), logged(READY, began), 120, 1)


def test_an_answer_without_log_probabilities_says_how_they_are_asked_for():
    bare = replace(step(0), candidates=())
    assert '"logprobs"' in text(Candidates(), logged(READY, started(), bare))
    assert '"logprobs"' not in text(Candidates(), logged(READY, started(), step(0)))


def test_why_a_request_failed_stands_behind_its_text():
    log = logged(READY, started(), step(0), Ended(1, "the server refused with 401: no such key", failed=True))
    assert "the server refused with 401: no such key" in text(TokenStream(), log)


def test_a_list_of_runs_none_of_which_is_a_branch_has_their_prompts():
    second = replace(started(2), prompt="Name a colour.")
    events = (READY, started(), Labelled(1, "chat m", False), Ended(1, "end of text"), second)
    shown = text(Branches(), logged(*events, started(3)), 120)
    assert "Name a colour." in shown and "1 chat m" in shown and "parts at" not in shown
    assert "end of text" in shown and "● writing" in shown


def test_a_request_on_its_way_waits_for_its_answer():
    assert "waiting for the answer" in text(Status(), logged(READY, started()), 120, 1)
    others = (replace(started(run), given_knobs=()) for run in (1, 2, 3))
    assert "3 requests at once" in text(Status(), logged(READY, *others), 120, 1)
