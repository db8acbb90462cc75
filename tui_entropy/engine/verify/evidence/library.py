"""Transformers against itself: a text by each of its own ways, without a line of ours, and which of them is followed.

Some families say one thing with a cache and another in one pass, or one thing by one attention and another by the
next. Neither is known to be the wrong one, so it is told, and nothing is held against a way that is not followed.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from msgspec.structs import replace
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from tui_entropy.engine.architecture.new_cache import new_cache
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.reliability.report import EAGER, FAIL, ONE_PASS, Check
from tui_entropy.engine.verify.evidence.compare import N_SINGLE, allowed, forward_logits, worst

N_READ = 96
"""Tokens of the text: more than other checks read, since what keeps a part of its keys differs once that is full."""
PASSES, ATTENTIONS, FOLLOWED = "passes of transformers", "attentions of transformers", "way that is followed"
COMPARED = {
    PASSES: "its own generate, with its cache, against its own pass over the text at once",
    ATTENTIONS: "its own generate by one attention against the other, of two models built so",
    FOLLOWED: "what the program reads token by token against transformers' own generate",
}


@dataclass(frozen=True)
class Library:
    """The verdict on transformers against itself: checks, and the ways that are not followed."""

    checks: tuple[Check, ...]
    unfollowed: frozenset[str] = frozenset()
    """Ways of transformers, such as ONE_PASS and EAGER, that differ from the one that is followed."""

    def judged(self, check: Check) -> Check:
        """The check as it counts: a failure against a way that is not followed proves nothing and refutes nothing."""
        ways = [way for way in check.rests_on if way in self.unfollowed]
        if check.verdict != FAIL or not ways:
            return check
        return replace(check, skipped=f"transformers' {' and '.join(ways)} is not what is followed")


def library(loaded: Loaded, ids: Tensor) -> Library:
    """Read a text made of (n,) ids by every way, and as the program reads it."""
    model = loaded.model
    text = ids.repeat(1 + N_READ // len(ids))[: min(N_READ, loaded.architecture.context)]
    actual = as_the_program(loaded, text)
    try:
        decoded, whole = by_generate(model, text), at_once(model, text)
    except Exception as error:  # of whatever model, whose code is anybody's
        return Library(tuple(_unchecked_row(name, error) for name in COMPARED))
    bound = allowed(model.dtype, max(float(logits.abs().max()) for logits in (actual, decoded, whole)))
    passes = compare_ways(PASSES, actual, {"generate": decoded, ONE_PASS: whole}, bound)
    try:
        attentions = by_both_attentions(loaded, text, actual, decoded, bound)
    except Exception as error:  # likewise
        attentions = _unchecked_row(ATTENTIONS, error), None
    followed = Check(FOLLOWED, "logits", COMPARED[FOLLOWED], "nats", apart(actual, decoded), bound)
    unfollowed = frozenset(way for _, way in (passes, attentions) if way)
    return Library((passes[0], attentions[0], followed), unfollowed)


def by_both_attentions(
    loaded: Loaded, text: Tensor, actual: Tensor, decoded: Tensor, bound: float
) -> tuple[Check, str | None]:
    """decoded: by generate with the attention that the model has."""
    attention = str(loaded.architecture.decoder.config._attn_implementation)
    if attention == "eager" and not loaded.model._supports_sdpa:
        return _skipped_row(ATTENTIONS, "transformers has one attention for it"), None
    other = "sdpa attention" if attention == "eager" else EAGER
    turned = by_generate(twin(loaded.model, other.split()[0]), text)
    return compare_ways(ATTENTIONS, actual, {f"{attention} attention": decoded, other: turned}, bound)


def compare_ways(name: str, actual: Tensor, ways: dict[str, Tensor], bound: float) -> tuple[Check, str | None]:
    """Two ways of transformers; where they differ which is nearer to what the program found, and which is not."""
    difference = apart(*ways.values())
    check = Check(name, "logits", COMPARED[name], "nats", difference, bound)
    if check.verdict != FAIL:
        return check, None
    followed, unfollowed = sorted(ways, key=lambda way: apart(actual, ways[way]))
    note = (
        f"transformers differs from itself: its {unfollowed} is {difference:.2g} nats from its {followed}; "
        f"the program follows its {followed}"
    )
    return replace(check, note=note), unfollowed


def apart(actual: Tensor, expected: Tensor) -> float:
    """(rows, vocab) logits -> the largest difference between what they say of a token, in nats."""
    return worst(actual.log_softmax(-1), expected.log_softmax(-1))


def as_the_program(loaded: Loaded, text: Tensor) -> Tensor:
    """(n,) ids -> (N_SINGLE, vocab) logits of what follows each of the last tokens but the newest."""
    cache, stretches = new_cache(loaded.model, loaded.architecture), [len(text) - N_SINGLE] + [1] * (N_SINGLE - 1)
    with open_instruments(loaded, keep=0):
        return torch.cat(
            [forward_logits(loaded.model, part, cache)[-1:] for part in torch.split(text[:-1], stretches)]
        )


def at_once(model: PreTrainedModel, text: Tensor) -> Tensor:
    """Logits of the last tokens by one plain call."""
    logits: Tensor = model(input_ids=text[None, :-1], use_cache=False).logits
    return logits[0, -N_SINGLE:].float()


def by_generate(model: PreTrainedModel, text: Tensor) -> Tensor:
    """Logits of the last tokens while `generate` writes these very tokens with its cache."""
    token_ids = text.tolist()
    setting = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=N_SINGLE, min_new_tokens=N_SINGLE, do_sample=False, disable_compile=True, pad_token_id=0,
        output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip
    output = model.generate(  # type: ignore[operator]
        text[None, :-N_SINGLE], setting, prefix_allowed_tokens_fn=lambda row, so_far: [token_ids[len(so_far)]]
    )
    return torch.cat(output.logits).float()


def twin(model: PreTrainedModel, attention: str) -> PreTrainedModel:
    """A model of the same weights under another attention from the start: some families choose their code by it."""
    with no_init_weights():
        other: PreTrainedModel = type(model)._from_config(  # type: ignore[no-untyped-call]
            copy.deepcopy(model.config), attn_implementation=attention, dtype=model.dtype
        )
    other.load_state_dict(model.state_dict(), assign=True)
    other.to(model.device)  # type: ignore[arg-type]
    other.train(False)
    return other


def _unchecked_row(name: str, error: Exception) -> Check:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return _skipped_row(name, f"transformers cannot: {reason}")


def _skipped_row(name: str, why: str) -> Check:
    return Check(name, "logits", COMPARED[name], "nats", skipped=why)
