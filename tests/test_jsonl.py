"""JSON lines: what a program reads, with the unit in the name."""

import json
import math

from msgspec.structs import replace
from scripted import started, step

from tui_entropy import jsonl
from tui_entropy.records import Candidate, Grid, ModelCard, Vector

CARD = ModelCard(
    name="tiny",
    revision=None,
    source="/models/tiny",
    note="",
    device="cpu",
    dtype="float32",
    n_layers=3,
    n_heads=2,
    n_kv_heads=1,
    d_model=8,
    vocab=200,
    context=64,
    layer_kinds=("full", "sliding", "linear"),
    windows=(None, 8, None),
    attention=(True, True, False),
    has_chat_template=False,
    versions={"torch": "2"},
)


def test_the_header_says_what_is_needed_to_do_it_again():
    begun = replace(started(), vectors=(Vector("warm", "warm.gguf", on=True), Vector("cold", "cold.gguf")))
    header = json.loads(jsonl.header(CARD, begun))["header"]
    assert header["prompt_ids"] == [0, 1, 2] and header["seed"] == 7
    assert header["knobs"]["order"][-1] == "top_n_sigma"
    assert [vector["name"] for vector in header["vectors"]] == ["warm"]
    assert header["layer_kinds"] == ["full", "sliding", "linear"] and header["units"]["entropy"] == "nats"


def test_a_step_is_one_line_with_every_number():
    line = jsonl.step(step(2))
    assert b"\n" not in line
    read = json.loads(line)
    assert read["bytes"] == b" Paris".hex() and read["text"] == " Paris"
    assert read["entropy_nats"] == step(2).entropy and read["varentropy_nats2"] == step(2).varentropy
    assert read["survivors"] == {"top_k": 40, "top_p": 1}
    assert read["candidates"][1] == {
        "id": 7,
        "text": " �",
        "bytes": "20ff",
        "logprob": math.log(0.1),
        "final_prob": 0.0,
        "cut": "top_p",
    }
    assert len(read["head_entropy_nats"]) == 3 and read["visible_keys"] == [5, 5, 5]
    assert set(read["seconds"]) == {"forward", "sample", "at"}


def test_unknown_and_impossible_are_null_since_json_has_no_nan():
    impossible = Candidate(3, b"x", -math.inf, 0.0)
    gap = replace(step(0), head_entropy=Grid.of([[math.nan, 1.0]]), visible_keys=(None,), candidates=(impossible,))
    read = json.loads(jsonl.step(gap))
    assert read["head_entropy_nats"] == [[None, 1.0]] and read["visible_keys"] == [None]
    assert read["candidates"][0]["logprob"] is None
