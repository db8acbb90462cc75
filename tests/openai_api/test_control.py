"""Requests and people at one engine: who waits for whom, what a screen sees, and what becomes of a person's keys."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import httpx2
import pytest
from endpoints import WORDS
from watchers import Watcher

from tui_entropy.openai_api.engine import LEFT, MAX_WAITING
from tui_entropy.records.commands import Branch, Continue, Pause, SetKnobs, Stop, Write
from tui_entropy.records.events import Ended, Paused, Refused, SettingsPending, Standing, Started
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step

OWN = Knobs(temperature=1.1, top_k=0, seed=5, banned=(256, 258))
ENDLESS = Write(WORDS, None, False, 200, OWN)
LONG = {"prompt": WORDS, "max_tokens": 200, "temperature": 1.7, "top_k": 0, "logit_bias": {"256": -100, "258": -100}}


@pytest.fixture
def screen(served):
    """A person's, which is in control."""
    made = served.screen()
    made.until(lambda: made.standing.in_control)
    made.heard[:] = [event for event in made.heard if isinstance(event, Standing)]  # and nothing of what was before
    yield made
    made.send(Stop())
    made.until(lambda: made.log.state in ("ready", "ended"))
    made.close()


def begun(screen: Watcher) -> list[Started]:
    return [event for event in screen.heard if isinstance(event, Started)]


def asked(served, **body) -> "threading.Thread":
    """A request on its way, whose answer will be in `.answer`."""
    thread = threading.Thread(target=lambda: setattr(thread, "answer", served.post("completions", **body)))
    thread.start()
    return thread


def test_a_screen_sees_each_request_while_it_is_written_and_stays_in_control(served, screen):
    stream = served.chunks("completions", **LONG)
    first = next(stream)
    started = screen.until(Started)
    assert (started.run, started.request, started.prompt) == (first["run"], first["id"], WORDS)
    assert (started.knobs.temperature, started.knobs.seed, started.max_tokens) == (1.7, first["seed"], 200)
    screen.until(Step)
    assert screen.standing.in_control and screen.log.state == "writing"
    n = sum(bool(chunk["choices"][0]["text"]) for chunk in stream)
    screen.until(Ended)
    assert 0 < n <= len(screen.steps) == 200


def test_a_request_waits_for_a_person_who_hears_of_it_and_whose_knobs_come_back(served, screen):
    screen.send(ENDLESS)
    screen.until(Step)
    screen.send(Pause())
    screen.until(Paused)
    waiting = asked(served, prompt=WORDS, max_tokens=3, temperature=0.2)
    notice = screen.until(Refused)
    assert notice.notice and "waits until this one has ended" in notice.sentence
    assert waiting.is_alive() and len(begun(screen)) == 1
    screen.send(Stop())
    assert screen.until(Started).knobs.temperature == 0.2
    screen.until(lambda: any(isinstance(event, SettingsPending) for event in screen.heard))
    assert screen.log.state == "ended" and screen.log.set_knobs == OWN
    waiting.join(20)
    assert waiting.answer.json()["usage"]["completion_tokens"] == 3


def test_a_person_pauses_and_changes_the_text_of_a_request_whose_client_gets_what_comes_of_it(served, screen):
    stream = served.chunks("completions", **LONG, return_token_ids=True)
    first = next(stream)
    screen.until(Step)
    screen.send(Pause())
    screen.until(Paused)
    at = len(screen.log.steps)
    screen.send(SetKnobs(Knobs(temperature=0, banned=(256, 258))), Branch(first["run"], at, token_ids=(90,)))
    chunks = [*stream]
    ids = [one for chunk in chunks for one in chunk["choices"][0].get("token_ids", [])]
    assert ids[at] == 90 and len(ids) == 200
    screen.until(Ended)
    assert [step.token_id for step in screen.log.steps] == ids


def test_a_person_ends_the_text_of_a_request_or_leaves_it(served, screen):
    for leave in (Stop(), ENDLESS):
        stream = served.chunks("completions", **LONG)
        next(stream)
        screen.until(Step)
        screen.send(leave)
        *_, last = stream
        assert last["choices"][0]["finish_reason"] == "stop"
        screen.send(Stop())
        screen.until(lambda: screen.log.state == "ended")
    stream = served.chunks("completions", **LONG)
    first = next(stream)
    screen.until(lambda: len(screen.log.steps) > 3)
    screen.send(Branch(first["run"], 1))
    *_, last = stream
    assert last == {"error": {"message": LEFT, "type": "server_error", "param": None, "code": None}}


def test_a_client_that_hangs_up_ends_its_text_also_before_it_has_begun(served, screen):
    stream = served.chunks("completions", **LONG)
    next(stream), next(stream)
    stream.close()
    assert screen.until(Ended).reason == "stopped" and 0 < len(screen.steps) < 200
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(served.client.post, f"{served.url}/completions", json=LONG, timeout=1.0)
        screen.until(Started)
        screen.send(Pause())
        screen.until(Paused)
        assert isinstance(waits.exception(), httpx2.ReadTimeout)
    assert screen.until(Ended).reason == "stopped"
    screen.send(ENDLESS, Pause())
    screen.until(Paused)
    n = len(begun(screen))
    with pytest.raises(httpx2.ReadTimeout):
        served.client.post(f"{served.url}/completions", json=LONG, timeout=0.3)
    last = asked(served, prompt="last", max_tokens=1)  # its turn comes once the other one is given up
    screen.until(lambda: sum(isinstance(event, Refused) for event in screen.heard) == 2)
    screen.send(Stop())
    last.join(20)
    screen.until(lambda: begun(screen)[-1].prompt == "last")
    assert last.answer.status_code == 200 and len(begun(screen)) == n + 1


def test_requests_at_once_are_written_one_after_the_other_each_as_if_it_were_alone(served, screen):
    bodies = [{"prompt": WORDS[:n], "max_tokens": 8, "seed": n, "temperature": 1.4} for n in range(1, 6)]
    alone = [served.whole("completions", **body)["choices"] for body in bodies]
    with ThreadPoolExecutor(5) as pool:
        together = list(pool.map(lambda body: served.whole("completions", **body)["choices"], bodies))
    assert together == alone
    screen.until(lambda: len(begun(screen)) == 10 and screen.log.state == "ended")
    told = [event for event in screen.heard if isinstance(event, Started | Step | Ended)]
    for event, following in pairwise(told):
        assert event.run == following.run or (isinstance(event, Ended) and isinstance(following, Started))


def test_beyond_a_bound_requests_are_told_to_come_again(served, screen):
    screen.send(ENDLESS, Pause())
    screen.until(Paused)
    body = {"prompt": WORDS, "max_tokens": 1}
    with ThreadPoolExecutor(MAX_WAITING + 1) as pool:
        answers = [pool.submit(served.post, "completions", **body) for _ in range(MAX_WAITING + 1)]
        deadline = time.monotonic() + 20
        while not any(each.done() for each in answers):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        screen.send(Stop())
        codes = sorted(each.result().status_code for each in answers)
    assert codes == [200] * MAX_WAITING + [429]


def test_a_paused_text_holds_nobody_up_once_no_screen_looks_on(served):
    one = served.screen()
    one.until(lambda: one.standing.in_control)
    one.send(ENDLESS, Pause(), Continue(), Pause())
    one.until(Paused)
    waiting = asked(served, prompt=WORDS, max_tokens=1)
    one.until(Refused)
    one.close()
    waiting.join(20)
    assert waiting.answer.status_code == 200
