"""`probe`: questions about one token."""

from __future__ import annotations

import json

import promises
import pytest
import small
from promises import assert_right, recorded
from transformers import AutoTokenizer
from tried_commands import MODEL, TURNED, runs

pytestmark = [pytest.mark.real, pytest.mark.pty]


ASKED = 'tui-entropy probe lens -p "Why is the sky blue?" --position 60 --option k=8 --trace run.tui'


@runs("tui-entropy probe")
def test_probes_are_listed(shell, line):
    done = shell.run(line)
    assert done.code == 0 and [row for row in done.out.splitlines() if not row.startswith(" ")] == [
        "attention", "attention-rollout", "attention-score", "attribution", "continuations", "ensemble", "flow",
        "head-patterns", "lens", "logit-attribution", "nearest-tokens", "patching", "step", "visit",
    ]  # fmt: skip


CITY = '-p "The capital of France is the city of" --raw --option'


@runs(f"tui-entropy probe logit-attribution {CITY} sources=true")
def test_the_logit_of_a_city_comes_from_the_name_of_its_country_by_one_head(shell, line):
    found = json.loads(shell.run(f"{line} --json").out)
    sums, by_head, *_ = found["panels"]
    told = dict(sums["rows"])
    assert abs(told["remainder"]) < 1e-4 * told["logit"]
    assert by_head["rows"][0][1]["text"] == " France"


ITALY = "'into=The capital of Italy is the city of'"


@runs('tui-entropy probe patching -p "The capital of France is" --raw --option "into=The capital of Italy is"')
def test_states_put_into_another_prompt_are_drawn(shell, line):
    done = shell.run(line)
    assert done.code == 0 and "probability of ' Paris' with the state from here" in done.out


@runs(f"tui-entropy probe patching {CITY} {ITALY}")
def test_the_name_of_the_country_put_into_another_sentence_brings_its_capital(shell, line):
    found = json.loads(shell.run(f"{line} --json").out)
    table, grid, *_ = found["panels"]
    (_, here, said, *_), (_, there, *_) = table["rows"]
    assert said["text"] == " Paris" and here > 0.5 > 0.1 > there
    country = grid["columns"]["positions"].index(3)
    assert grid["rows"]["labels"][-1] == "0" and grid["values"][-1][country] == pytest.approx(here, abs=1e-3)
    assert grid["values"][0][country] == pytest.approx(there, rel=1e-3)  # a pass of another length rounds otherwise
    assert grid["values"][0][-1] == pytest.approx(here, abs=1e-3)


@runs(f"tui-entropy probe flow {CITY} by=routes --svg flow.svg")
def test_the_flow_of_a_city_comes_down_to_the_name_of_its_country_too_and_is_a_picture(shell, line):
    diagram, table, _ = json.loads(shell.run(f"{line} --json").out)["panels"]
    assert " France" in [row[0]["text"] for row in table["rows"][:3] if row[1]]
    top = [node for node in diagram["nodes"] if node["row"] == 0]
    assert [(node["token"]["text"], node["share"]) for node in top] == [(" Paris", 1.0)]
    assert (shell.folder / "flow.svg").read_text().startswith("<svg ")


def test_what_is_no_flow_is_a_picture_of_what_is_drawn(shell):
    line = f"tui-entropy probe logit-attribution {CITY} measure=norm"
    assert shell.run(f"{line} --svg heads.svg").code == 0
    picture = (shell.folder / "heads.svg").read_text()
    assert picture.startswith("<svg ") and "remainder" in picture and "http://www.w3.org" in picture
    done = shell.run(f"{line} --svg heads.png")
    assert done.code == 2 and "ends in .svg" in done.err and not (shell.folder / "heads.png").exists()


@runs(f"tui-entropy probe attention-score {CITY} layer=17")
def test_why_a_head_looked_there_is_a_sum(shell, line):
    pair, total, *_ = json.loads(shell.run(f"{line} --json").out)["panels"]
    *parts, score = [row[1] for row in total["rows"]]
    assert sum(parts) == pytest.approx(score, abs=1e-4) and pair["rows"][0][0] == 17


@runs(f"tui-entropy probe attention-rollout {CITY} residual=0.9")
def test_rollout_is_told_of_each_token(shell, line):
    _, text, table = json.loads(shell.run(f"{line} --json").out)["panels"]
    assert sum(text["values"]) == pytest.approx(1) and len(table["rows"]) == len(text["values"])


@runs(f"tui-entropy probe attribution {CITY} method=attn-lrp")
def test_the_relevance_of_each_token_is_told(shell, line):
    found = json.loads(shell.run(f"{line} --json").out)
    note, text, table = found["panels"]
    assert "remainder" in note["text"] and len(text["values"]) == found["position"] == len(text["positions"])
    assert "≈" not in note["title"] and table["rows"]


@runs('tui-entropy probe lens -p "The capital of France is" --raw')
def test_the_logit_lens_of_the_first_token_says_last_what_the_model_says(shell, line):
    found = json.loads(shell.run(f"{line} --json").out)
    grid, table, *_ = found["panels"]
    assert [row[0] for row in table["rows"]] == [str(n) for n in range(30, -1, -1)] and found["position"] == 5
    assert grid["columns"]["positions"] == [1, 2, 3, 4, 5] and grid["tokens"][4] == table["rows"][0][1]
    most = table["rows"][0][1]
    ids = AutoTokenizer.from_pretrained(MODEL)("The capital of France is").input_ids
    wanted = promises.expected(MODEL, ids, most["ids"])
    entropy, _, _, rank = wanted[0]
    assert most["text"] == " Paris" and rank == 1
    assert table["rows"][0][2] == pytest.approx(entropy, abs=3e-4)
    drawn = shell.run(line)
    assert drawn.code == 0 and "lens of ·Paris at position 5" in drawn.out and "took" in drawn.err


@runs(ASKED, "tui-entropy probe lens --recording run.tui")
def test_an_answer_is_recorded_and_shown_again(shell, line):
    if line == ASKED or not (shell.folder / "asked" / "run.tui").exists():
        (shell.folder / "asked").mkdir(exist_ok=True)
        (shell.folder / "asked" / "run.tui").unlink(missing_ok=True)
        first = shell.cold.run(ASKED, cwd=shell.folder / "asked")
        assert first.code == 0 and "recorded in" in first.err, first.err
        assert_right(recorded(shell.folder / "asked" / "run.tui"), MODEL)
        (shell.folder / "asked" / "drawn").write_text(first.out)
    again = shell.run("tui-entropy probe lens --recording run.tui", cwd=shell.folder / "asked")
    assert again.code == 0 and again.out == (shell.folder / "asked" / "drawn").read_text()


@runs('tui-entropy probe attention -p "The capital of France is" --raw --position 3 --option layer=20 --json')
def test_rows_of_attention_before_a_token_of_the_prompt(shell, line):
    done = shell.run(line)
    found = json.loads(done.out)
    assert found["options"]["layer"] == 20 and found["panels"][0]["rows"]["positions"] == [0, 1, 2]
    assert [sum(filter(None, row)) for row in found["panels"][0]["values"]] == pytest.approx([1, 1, 1], abs=1e-5)


WITH_EVERYTHING = (
    f"tui-entropy probe continuations --position 25 --option n=2 --option tokens=3 --system 'Be brief.' --chat "
    f"{TURNED} -p Hello --vector happy.gguf:0.5 --ablate 3.1=1 --device cpu --dtype float32 "
    "--no-trust-remote-code --no-graph --model smollm2 --products columns --nats --theme light --color 256 --ascii"
)


@runs(
    WITH_EVERYTHING,
    "tui-entropy probe step --raw --prompt Hello --trust-remote-code --graph --bits",
    "tui-entropy probe lens --model ./named --chat-template short -p Hello",
)
def test_a_question_with_every_option(shell, vector_files, line):
    if "./named" in line:
        small.saved_with_two_templates(shell.folder / "named")
    done = shell.run(line)
    assert done.code == 0, done.err
    if "--ascii" in line:
        assert "\x1b[" in done.out and done.out.isascii() and "nats" in done.out and "bits" not in done.out


@runs("tui-entropy probe --recording story.tui --run 1")
def test_a_recording_has_answers_that_nobody_asked_for(story, line):
    head, *rows = story.run(line).out.splitlines()
    assert head.split() == ["probe", "position", "seconds", "options"]
    session = recorded(story.folder / "story.tui")
    first, *others = [int(row.split()[1]) for row in rows if row.split()[0] == "head-patterns"]
    assert len(session.prompt) <= first and len(others) == len(rows) - 1
    n = len(session.prompt) + len(session.tokens)
    assert others == list(range(128 * (first // 128 + 1), n, 128))
    none = story.run(f"{line.replace('probe', 'probe lens')}")
    assert (none.code, none.out) == (3, "") and "no answer of lens" in none.err and "head-patterns" in none.err


@runs("tui-entropy run --headless --raw --max-tokens 40 -p Hello --banned 2 --record-attention off --trace plain.tui")
def test_a_recording_without_answers_says_so(shell, line):
    assert shell.run(line).code == 0
    assert shell.run("tui-entropy probe --recording plain.tui").out == "no probe was asked in run 1\n"


@runs(
    'tui-entropy probe ensemble -p "The capital of France is" --raw',
    'tui-entropy probe ensemble -p "The capital of France is" --raw --option source=weight-noise',
    'tui-entropy probe ensemble -p "The capital of France is" --raw --option source=weight-noise --option n=3 --json',
)
def test_an_ensemble_says_what_of_the_doubt_is_the_models(shell, line):
    done = shell.run(line)
    assert done.code == 0, done.err
    if "--json" not in line:
        assert ("zero by construction" in done.out) is ("weight-noise" not in line)
        assert ("noise 8" in done.out) is ("weight-noise" in line)
        return
    parts = {row[0].split(":")[0]: row[1] for row in json.loads(done.out)["panels"][1]["rows"]}
    assert parts["total"] == pytest.approx(parts["aleatoric"] + parts["epistemic"])
    assert 0 < parts["epistemic"] < parts["aleatoric"]


@runs(
    'tui-entropy probe nearest-tokens -p "128717593 + 8191493 =" --raw --position 5 --option every=10',
    'tui-entropy probe lens -p "128717593 + 8191493 =" --raw --position 5 --option secondary=iterative',
)
def test_the_stream_begins_at_the_embedding_of_its_own_token(shell, line):
    done = shell.run(line)
    if "lens" in line:
        assert done.code == 0 and "no. 2" in done.out, done.err
        return
    last = done.out.rstrip().splitlines()[-1].split()
    assert done.code == 0 and last[0] == "0" and last[2:4] == ["1.00", "1"], done.out
