"""Arrays: shapes that one can compute with, ids and bytes exact, no pickle."""

import io
import json
import math
from itertools import pairwise

import exports
import made_panels
import numpy as np
import pytest
from msgspec.structs import replace
from scripted import HEADS, LAYERS, started, step

from tui_entropy.export import npz
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.sampling import Knobs


def read(path):
    return np.load(io.BytesIO(exports.exported(npz.write, path)), allow_pickle=False)


@pytest.fixture
def found(tmp_path):
    return read(exports.trace(tmp_path / "run.tui"))


def test_each_array_has_the_written_tokens_as_its_first_axis(found):
    steps = len(exports.WORDS)
    assert found["head_entropy_nats"].shape == found["head_varentropy_nats2"].shape == (steps, LAYERS, HEADS)
    assert found["block_norm_l2"].shape == found["attention_spread_nats2"].shape == (steps, LAYERS)
    assert found["candidate_id"].shape == (steps, Knobs().n_candidates)
    assert found["entropy_nats"].tolist() == [step(n).entropy for n in range(steps)]
    assert found["head_entropy_nats"][2].tolist() == step(2).head_entropy.rows()


def test_a_candidate_that_is_not_there_is_unknown_and_a_cut_names_its_stage(found):
    assert found["candidate_id"][0, :3].tolist() == [100, 7, -1]
    assert math.isnan(found["candidate_logprob_nats"][0, 2])
    assert found["stages"][found["candidate_cut"][0, 1]] == "top_p" and found["candidate_cut"][0, 0] == -1


@pytest.mark.parametrize("name", ["banned", "a_stage_that_this_version_lacks"])
def test_a_cut_by_what_is_no_stage_of_the_order_has_its_name(tmp_path, name):
    one = step(0)
    one = replace(one, candidates=(one.candidates[0], replace(one.candidates[1], cut=name)))
    found = read(exports.trace(tmp_path / "run.tui", [started(), one]))
    assert found["stages"][found["candidate_cut"][0, 1]] == name and found["candidate_cut"][0, 0] == -1


@pytest.mark.parametrize("word", ["word", made_panels.HOSTILE])
def test_what_probes_answered_is_there_as_arrays(tmp_path, word):
    panels = (*made_panels.panels(word), made_panels.token_map(word), made_panels.diagram(word), step(0))
    answer = ProbeAnswer("lens", 1, 4, {"k": 3}, panels)
    found = read(exports.trace(tmp_path / "run.tui", [*exports.events(), answer]))
    at = f"probe_lens_{4}"
    assert json.loads(str(found[at])) == {"k": 3} and str(found[f"{at}_0_unit"]) == "share"
    np.testing.assert_array_equal(found[f"{at}_0_values"], panels[0].values.numpy())
    assert found[f"{at}_0_rows"].tolist() == [f"{word} a", "b"]
    np.testing.assert_array_equal(found[f"{at}_1_values"], [math.log(2), math.nan, -1.0])
    assert found[f"{at}_2_columns"].tolist()[1] == "in nats"
    np.testing.assert_array_equal(found[f"{at}_2_column_1"], [math.log(2), math.nan])
    assert found[f"{at}_2_column_0"].tolist() == [word, word]
    assert found[f"{at}_3_edges"].tolist() == [[0, 1, 0.25], [0, 0, -0.5]]
    assert str(found[f"{at}_4_text"]) == f"{word} and more of it"
    assert found[f"{at}_5_rows"].tolist() == [0, 1, 2]
    assert found[f"{at}_6_tokens"].tolist()[1:3] == [" a", "b\n"]
    assert found[f"{at}_7_nodes"].shape == (len(panels[7].nodes), 3)


def test_bytes_are_cut_at_their_ends(found):
    ends = [0, *found["byte_ends"].tolist()]
    cut = [found["bytes"][a:b].tobytes().decode() for a, b in pairwise(ends)]
    assert tuple(cut) == exports.WORDS


def test_the_prompt_and_the_header_are_in_it(found):
    assert found["prompt_token_id"].tolist() == [0, 1, 2]
    assert math.isnan(found["prompt_entropy_nats"][0]) and found["prompt_entropy_nats"][1] == 0.125
    assert json.loads(str(found["header"]))["header"]["prompt_ids"] == [0, 1, 2]


def test_unknown_is_nan_or_minus_one(tmp_path):
    blind = replace(step(0), visible_keys=(5, 5, None), mirostat_mu=2.0)
    found = read(exports.trace(tmp_path / "run.tui", [started(), step(0), replace(blind, index=1)]))
    assert found["visible_keys"].tolist() == [[3, 3, 3], [5, 5, -1]]
    assert np.isnan(found["mirostat_mu_bits"]).tolist() == [True, False]


def test_a_run_without_a_token_still_has_its_prompt(tmp_path):
    found = read(exports.trace(tmp_path / "run.tui", [started()]))
    assert found["entropy_nats"].shape == (0,) and found["prompt_token_id"].shape == (3,)
