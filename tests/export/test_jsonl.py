"""JSON lines: what a program reads, with the unit in the name."""

import json
import math

import pytest
from cards import CARD
from msgspec.structs import replace
from scripted import logged, started, step

from tui_entropy.records.arrays import Grid
from tui_entropy.records.events import BreakpointsChanged, Ended, Paused, PromptScores, WatchesChanged
from tui_entropy.records.settings import Breakpoint, Vector, Watch
from tui_entropy.records.step import Candidate, Watched
from tui_entropy.trace import jsonl


def test_the_header_says_what_is_needed_to_do_it_again():
    begun = replace(started(), vectors=(Vector("warm", "warm.gguf", on=True), Vector("cold", "cold.gguf")))
    header = json.loads(jsonl.header(CARD, begun))["header"]
    assert header["prompt_ids"] == [0, 1, 2] and header["seed"] == 7
    assert header["knobs"]["order"][-1] == "mirostat_tau"
    assert [vector["name"] for vector in header["vectors"]] == ["warm"]
    assert header["layer_kinds"] == ["full", "sliding", "linear"] and header["units"]["entropy_nats"] == "nats"


def test_a_step_is_one_line_with_every_number():
    line = jsonl.step(step(2))
    assert b"\n" not in line
    read = json.loads(line)
    assert read["bytes"] == b" Paris".hex() and read["text"] == " Paris"
    assert read["entropy_nats"] == step(2).entropy and read["varentropy_nats2"] == step(2).varentropy
    assert read["stages"][0] == {
        "name": "top_k",
        "survivors": 40,
        "mass": 0.9,
        "entropy_nats": step(2).stages[0].entropy,
        "prob": 0.75,
        "candidate_probs": [0.75, pytest.approx(0.1)],
    }
    assert read["candidates"][1] == {
        "id": 7,
        "text": " �",
        "bytes": "20ff",
        "logprob": math.log(0.1),
        "final_prob": 0.0,
        "cut": "top_p",
    }
    assert len(read["head_varentropy_nats2"]) == 3 and read["mean_head_varentropy_nats2"] == pytest.approx(0.6)
    assert len(read["head_entropy_nats"]) == 3 and read["visible_keys"] == [5, 5, 5]
    for name in (
        "logit_margin_logits",
        "prob_margin",
        "uniform_kl_nats",
        "perplexity",
        "window_perplexity",
        "state",
        "strays",
        "stray_blocks",
    ):
        assert read[name] is not None, name
    assert read["block_norm_l2"] == [24.0, 25.0, 26.0] and read["attention_disagreement"] == [pytest.approx(0.3)] * 3
    assert read["entropix_attention_entropy_nats"] == pytest.approx(0.6 * math.log(5))
    assert (read["forward_pass_seconds"], read["sampling_seconds"], read["at_seconds"]) == (0.04, 0.002, 0.045 * 3)


def test_unknown_and_impossible_are_null_since_json_has_no_nan():
    impossible = Candidate(3, b"x", -math.inf, 0.0)
    gap = replace(
        step(0),
        head_entropy=Grid.of([[math.nan, 1.0]]),
        visible_keys=(None,),
        candidates=(impossible,),
        attention=Grid.of([[math.nan] * 3]),
        perplexity=math.inf,
    )
    read = json.loads(jsonl.step(gap))
    assert read["head_entropy_nats"] == [[None, 1.0]] and read["visible_keys"] == [None]
    assert read["candidates"][0]["logprob"] is None
    assert read["attention_spread_nats2"] == [None] and read["perplexity"] is None


def test_the_prompts_scores_are_columns_with_their_units():
    stretch = PromptScores(1, 1, Grid.of([[1.0, 2.0, 3.0, 4.0, math.inf, math.nan, 5.0], [0.5] * 7]))
    read = json.loads(jsonl.prompt(stretch))["prompt"]
    assert read["first"] == 1
    assert (
        read["entropy_nats"] == [1.0, 0.5] and read["varentropy_nats2"] == [2.0, 0.5] and read["rank"] == [4.0, 0.5]
    )
    assert read["logit_margin_logits"] == [None, 0.5] and read["prob_margin"] == [None, 0.5]


def test_what_stops_it_and_what_is_followed_have_lines_of_their_own():
    watches = WatchesChanged(1, 4, (Watch(" Yes", 9, b" Yes", 1),))
    breakpoints = BreakpointsChanged((Breakpoint(2, "rank > 1", hits=3),))
    log = logged(started())
    lines = [json.loads(jsonl.line(one, CARD, log)) for one in (watches, breakpoints, Paused(1, "by you"))]
    assert lines == [
        {"watches": {"index": 4, "watched": [{"text": " Yes", "token_id": 9, "bytes": "20596573", "n_tokens": 1}]}},
        {"breakpoints": [{"id": 2, "expression": "rank > 1", "enabled": True, "hits": 3, "note": ""}]},
        {"paused": {"reason": "by you", "breakpoint": None}},
    ]
    followed = replace(step(0), watched=(Watched(9, -math.inf, 40, 1.5),))
    assert json.loads(jsonl.step(followed))["watched"] == [{"token_id": 9, "logprob": None, "rank": 40, "logit": 1.5}]


def test_the_last_line_sums_up_prompt_and_text():
    log = logged(
        started(), PromptScores(1, 1, Grid.of([[1.0] * 7, [2.0] * 7])), step(0), step(1), Ended(1, "stopped")
    )
    read = json.loads(jsonl.end(log, "stopped"))["end"]
    assert read["reason"] == "stopped" and read["tokens"] == 2
    assert read["prompt_perplexity"] == pytest.approx(math.exp(1.5)) and read["perplexity"] == 3.0
    assert read["sum_entropy_nats"] == pytest.approx(step(0).entropy + step(1).entropy)
    empty = json.loads(jsonl.end(logged(started()), "stopped"))["end"]
    assert empty["perplexity"] is None and empty["prompt_perplexity"] is None
