"""Texts by the hundred: what scoring costs beside the bare pass, and beside one eager pass for each text."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from engine import finished, loaded_model, prompt_ids
from figures import Figure, Settings, in_turns, ratio, spread

from tui_entropy.engine.architecture.architecture import architecture_of
from tui_entropy.engine.instruments.attention_functions import eager
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.scoring.comparison import Side, compare
from tui_entropy.engine.scoring.passage import Passage, left_to_right
from tui_entropy.engine.scoring.scorer import Wanted, score
from tui_entropy.metrics.registry import BY_FIELD

LENGTH = 512
N_SENTENCES, SENTENCE = 100, 32
LENS = ("entropy", "surprisal", "logit_margin", "prob_margin", "uniform_kl")
EVERYTHING = Wanted(lens=tuple(BY_FIELD[name] for name in LENS), attention=True, hidden=True)


def scored(settings: Settings) -> Iterator[Figure]:
    """A text with the scores of its tokens, against the pass that makes the logits they come of; and many sentences
    with all that can be wanted, against eager passes that keep all outputs."""
    loaded = loaded_model(settings)
    text = left_to_right(prompt_ids(loaded, LENGTH))
    ways = {
        "ours": partial(_scored, loaded, [text], Wanted()),
        "bare": partial(_bare, loaded, text, False),
        "bare, no logits": partial(_bare, loaded, text, True),
    }
    for way in ways.values():
        way()
    times = in_turns(ways, settings.rounds)
    for name, goal in (("bare", ">= 0.8"), ("bare, no logits", "")):
        detail = f"{spread(times[name], 's')}, scored {spread(times['ours'], 's')}"
        yield Figure(
            f"a text of {LENGTH} scored, pace / {name}", ratio(times[name], times["ours"]), "x", goal, detail
        )
    n = 10 if settings.quick else N_SENTENCES
    ids = prompt_ids(loaded, n * SENTENCE)
    sentences = [left_to_right(ids[at : at + SENTENCE]) for at in range(0, len(ids), SENTENCE)]
    both = {
        "ours": partial(_scored, loaded, sentences, EVERYTHING),
        "one eager pass each": partial(_eager, loaded, sentences),
    }
    times = in_turns(both, 1 if settings.quick else min(settings.rounds, 3))
    plain = times["one eager pass each"]
    detail = f"{spread(plain, 's')}, ours {spread(times['ours'], 's')}"
    name = f"{n} sentences of {SENTENCE} with everything, pace / eager"
    yield Figure(name, ratio(plain, times["ours"]), "x", ">= 3", detail)


def compared(settings: Settings) -> Iterator[Figure]:
    """Two models over one text, against the bare passes of both, which make the logits. The second is the first with
    its weights in a lower precision put back."""
    loaded = loaded_model(settings)
    other = replace(loaded, model=copy.deepcopy(loaded.model))
    other = replace(other, architecture=architecture_of(other.model))
    with torch.no_grad():
        for weight in other.model.parameters():
            weight.copy_(weight.bfloat16().to(weight.dtype))
    text = left_to_right(prompt_ids(loaded, LENGTH))

    def both() -> float:
        return _bare(loaded, text, False) + _bare(other, text, False)

    def apart() -> float:
        began = finished(loaded.model.device)
        list(compare(Side(loaded, [text]), Side(other, [text]), "padded"))
        return finished(loaded.model.device) - began

    ways = {"ours": apart, "both": both}
    for way in ways.values():
        way()
    times = in_turns(ways, settings.rounds)
    detail = f"{spread(times['both'], 's')}, compared {spread(times['ours'], 's')}"
    name = f"two models compared over {LENGTH} tokens / both bare passes"
    yield Figure(name, ratio(times["ours"], times["both"]), "x", "<= 1.15", detail)


def _scored(loaded: Loaded, passages: Sequence[Passage], wanted: Wanted) -> float:
    began = finished(loaded.model.device)
    list(score(loaded, passages, wanted))
    return finished(loaded.model.device) - began


@torch.inference_mode()
def _bare(loaded: Loaded, text: Passage, without: bool) -> float:
    ids = torch.tensor([text.ids], device=loaded.model.device)
    began = finished(loaded.model.device)
    loaded.model(input_ids=ids, use_cache=False, logits_to_keep=1 if without else 0)
    return finished(loaded.model.device) - began


@torch.inference_mode()
def _eager(loaded: Loaded, passages: Sequence[Passage]) -> float:
    """By the formulas, each written once."""
    began = finished(loaded.model.device)
    with eager(loaded.architecture.decoder):
        for passage in passages:
            ids = torch.tensor([passage.ids], device=loaded.model.device)
            out = loaded.model(input_ids=ids, output_hidden_states=True, output_attentions=True, use_cache=False)
            targets = ids[0, 1:, None]
            _numbers(out.logits[0, :-1], targets)
            for layer, hidden in enumerate(out.hidden_states):
                last = layer == loaded.architecture.n_layers  # told behind the norm
                normed = hidden if last else loaded.architecture.final_norm(hidden)
                _numbers(loaded.architecture.unembedding(normed)[0, :-1].float(), targets)
                of_token = hidden[0, :-1].float()
                torch.stack([of_token.mean(-1), of_token.std(-1, correction=0), of_token.norm(dim=-1)]).cpu()
            for weights in out.attentions:
                torch.special.entr(weights[0].float()).sum(-1).mean(0).cpu()
    return finished(loaded.model.device) - began


def _numbers(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    logp = logits.log_softmax(-1)
    p = logp.exp()
    entropy = -(p * logp).sum(-1)
    best, probable = logits.topk(2).values, p.topk(2).values
    uniform = torch.log(torch.tensor(float(logits.shape[-1]))) - entropy
    numbers = (
        entropy,
        -logp.gather(-1, targets)[:, 0],
        best[:, 0] - best[:, 1],
        probable[:, 0] - probable[:, 1],
        uniform,
    )
    return torch.stack(numbers).cpu()
