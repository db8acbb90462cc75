"""One model held against transformers' own cached `generate`: what the program says of it, number by number.

The reference is `generate` twice, with the attention that is the model's default and with the eager one, which tells
its weights; both are given nothing but the prompt. The program is given the model as a folder, and the text that
`generate` wrote, so that every number of every step has its counterpart.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import small
import torch
from torch import Tensor
from transformers import Cache, GenerationConfig, PreTrainedModel

from tui_entropy.core.errors import UserError
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.decoding.loop import decode
from tui_entropy.engine.kernels.products import AUTO
from tui_entropy.engine.loading.loader import load
from tui_entropy.engine.models.forward import read
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.sampling.settings import Controls
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.metrics.registry import SCORES
from tui_entropy.records.events import PromptScores
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.quantised_rows import error_bound
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step

N_WRITTEN = 4
TOLD_BEFORE = 0.03
"""By how much more a row that transformers tells may sum to than the one that is recorded. More, and it is told
before a learned sink takes its part."""
SHORT = 100
"""Tokens of a prompt that eager attention reads whole."""
BOUND = 3e-4
"""Nats, or a share of a norm."""


@dataclass
class Reference:
    """What transformers says after a prompt, step by step."""

    tokens: list[int]
    logits: Tensor
    """(n, vocab) that each token was chosen from."""
    hidden: list[tuple[Tensor, ...]]
    """Per step what `output_hidden_states` told: the embedding, then what each block put out."""
    attentions: list[list[Tensor]]
    """Per step the last row of each block that told its weights: (n_heads, keys)."""


def reference(
    model: PreTrainedModel,
    prompt: list[int],
    forced: list[int] | None = None,
    past: Cache | None = None,
    weights: bool = False,
) -> Reference:
    """By `generate` alone. forced: tokens that are to be written, whatever the model says. past: what is kept of the
    beginning of the prompt."""
    asked = GenerationConfig(max_new_tokens=N_WRITTEN, do_sample=False, use_cache=True, pad_token_id=0)
    more: dict[str, object] = {} if past is None else {"past_key_values": past}
    if forced is not None:
        more["prefix_allowed_tokens_fn"] = lambda _, ids: [forced[len(ids) - len(prompt)]]
    out = model.generate(
        torch.tensor([prompt]), generation_config=asked, return_dict_in_generate=True, output_logits=True,
        output_hidden_states=True, output_attentions=weights, **more,
    )  # fmt: skip
    attentions = getattr(out, "attentions", None) or ()
    hidden = list(getattr(out, "hidden_states", None) or ())
    tokens = out.sequences[0, len(prompt) :].tolist()
    return Reference(tokens, torch.cat(out.logits).double(), hidden, [_last_rows(step) for step in attentions])


def _last_rows(attentions: tuple[Tensor | None, ...] | None) -> list[Tensor]:
    return [rows[0, :, -1].double() for rows in attentions or () if torch.is_tensor(rows) and rows.dim() == 4]


def watched(model: PreTrainedModel, prompt: list[int], tokens: list[int]) -> Reference:
    """The same by eager attention, which tells its weights. Of a long prompt it reads no more than the last token,
    behind what `generate` keeps of the others: eager attention to all of them takes ten times as long."""
    past = None
    if len(prompt) > SHORT and "past_key_values" in inspect.signature(model.forward).parameters:
        asked = GenerationConfig(max_new_tokens=1, do_sample=False, use_cache=True, return_dict_in_generate=True)
        past = model.generate(torch.tensor([prompt[:-1]]), generation_config=asked).past_key_values
    with eager(model):
        return reference(model, prompt, tokens, past, weights=True)


@contextmanager
def eager(model: PreTrainedModel) -> Iterator[None]:
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@dataclass
class Finding:
    """How far a model is from its reference, and why it is not held against it where it is not."""

    refused: str = ""
    gaps: dict[str, float] = field(default_factory=dict)
    """Name of a number -> the largest difference."""
    notes: list[str] = field(default_factory=list)

    def gap(self, name: str, found: Tensor, wanted: Tensor, relative: bool = False) -> None:
        if found.shape != wanted.shape:
            self.gaps[name] = math.inf
            self.notes.append(f"{name}: {tuple(found.shape)} against {tuple(wanted.shape)}")
            return
        apart = (found.double() - wanted.double()).abs()
        apart = apart / wanted.abs().clamp(min=1) if relative else apart
        worst = float(apart.max()) if apart.numel() else 0.0
        self.gaps[name] = max(self.gaps.get(name, 0.0), math.inf if math.isnan(worst) else worst)

    @property
    def right(self) -> bool:
        return not self.refused and all(gap <= BOUND for gap in self.gaps.values())


def examined(
    model: PreTrainedModel, folder: Path, prompts: Callable[[Loaded], list[list[int]]], products: str = AUTO
) -> Finding:
    """Save a model in a folder, have the program load and write it, and hold that against transformers."""
    finding = Finding()
    model.generation_config = GenerationConfig()
    model.save_pretrained(folder)
    small.tokenizer(model.config.get_text_config(decoder=True).vocab_size).save_pretrained(folder)
    spec = ModelSpec(str(folder), device="cpu", dtype="float32", products=products)
    try:
        loaded = small.endless(load(spec, lambda progress: None))
    except UserError as refusal:
        finding.refused = str(refusal)
        return finding
    for prompt in prompts(loaded):
        compare(finding, loaded, model, prompt)
    return finding


def compare(finding: Finding, loaded: Loaded, model: PreTrainedModel, prompt: list[int]) -> None:
    with torch.no_grad():
        wanted = reference(model, prompt)
        weights = None
        if getattr(model.config.get_text_config(decoder=True), "num_attention_heads", None):
            weights = watched(model, prompt, wanted.tokens)
        whole = read(model, None, torch.tensor([prompt])).logits[0].double()
    if weights and (gap := float((wanted.logits - weights.logits).abs().max())) > BOUND:
        finding.notes.append(f"transformers: eager {gap:.2g} from {model.config._attn_implementation}")
    if (gap := float((wanted.logits[0] - whole[-1]).abs().max())) > BOUND:
        finding.notes.append(f"transformers: one pass {gap:.2g} from generate")
    steps, scores = written(loaded, prompt, wanted.tokens)
    logits_of(finding, steps, wanted)
    blocks_of(finding, loaded, steps, wanted)
    if weights:
        heads_of(finding, loaded, steps, weights)
    prompt_of(finding, model, scores, whole, prompt)


def written(loaded: Loaded, prompt: list[int], tokens: list[int]) -> tuple[list[Step], dict[int, list[float]]]:
    with open_instruments(loaded, record="all") as instruments:
        sequence = TokenSequence(loaded, prompt, len(tokens))
        sequence.forced = list(tokens)
        events = list(decode(loaded, instruments, sequence, lambda: Controls(Knobs(n_candidates=5), {})))
    scores = {
        event.first + at: list(row)
        for event in events
        if isinstance(event, PromptScores)
        for at, row in enumerate(event.scores.rows())
    }
    return [event for event in events if isinstance(event, Step)], scores


def logits_of(finding: Finding, steps: list[Step], wanted: Reference) -> None:
    logp = wanted.logits.log_softmax(-1)
    entropy = -(logp.exp() * logp).sum(-1)
    varentropy = (logp.exp() * logp.square()).sum(-1) - entropy.square()
    surprisal = -logp.gather(-1, torch.tensor(wanted.tokens)[:, None])[:, 0]
    finding.gap("entropy", torch.tensor([step.entropy for step in steps]), entropy)
    finding.gap("varentropy", torch.tensor([step.varentropy for step in steps]), varentropy)
    finding.gap("surprisal", torch.tensor([step.surprisal for step in steps]), surprisal)
    best = torch.tensor([[candidate.logprob for candidate in step.candidates] for step in steps])
    finding.gap("candidates", best, logp.topk(best.shape[-1]).values)


def blocks_of(finding: Finding, loaded: Loaded, steps: list[Step], wanted: Reference) -> None:
    """All but the last, which transformers tells after its final norm."""
    n_layers = loaded.architecture.n_layers
    for step, hidden in zip(steps, wanted.hidden, strict=False):
        if len(hidden) != n_layers + 1:
            finding.notes.append(f"hidden states of {len(hidden)} for {n_layers} blocks")
            return
        vectors = [one_stream(loaded, each) for each in hidden[:-1]]
        with torch.no_grad():
            normed = loaded.architecture.final_norm(vectors[-1])
        if normed.shape != hidden[-1].shape or not torch.allclose(normed, hidden[-1], atol=1e-4):
            vectors = vectors[1:]  # first the embedding; some families tell what every block put out instead
        norms = torch.stack([vector[0, -1].double().norm() for vector in vectors])
        finding.gap("norms", torch.tensor(step.blocks.numpy()[: len(norms), 2]), norms, relative=True)


def one_stream(loaded: Loaded, hidden: Tensor) -> Tensor:
    """Of several streams: the one that blocks compute from, or the mean of those that lie side by side."""
    if hidden.dim() < 4:
        return hidden
    return (
        hidden[loaded.architecture.stream]
        if len(hidden) > 1
        else torch.stack(hidden.unbind(2)).double().mean(0).float()
    )


def heads_of(finding: Finding, loaded: Loaded, steps: list[Step], weights: Reference) -> None:
    layers = [layer for layer, has in enumerate(loaded.architecture.attention) if has]
    attentions = [rows for rows in weights.attentions if rows]
    if len(layers) < (len(attentions[0]) if attentions else 0):
        finding.notes.append(f"rows of {len(layers)} blocks, {len(attentions[0])} tell weights")
    if not layers or not attentions:
        finding.notes.append("no rows" if not layers else "no weights told")
        return
    for step, rows in zip(steps, attentions, strict=False):
        if len(rows) == loaded.architecture.n_layers:
            rows = [rows[layer] for layer in layers]
        if len(rows) != len(layers):
            finding.gaps["heads"] = math.inf
            return
        for layer, row in zip(layers, rows, strict=True):
            recorded_of(finding, step, layer, row)
            row = row / row.sum(-1, keepdim=True)  # a sink takes its part
            entropy = torch.special.entr(row).sum(-1)
            found = torch.tensor(step.head_entropy.numpy()[layer])[: len(entropy)]
            finding.gap("heads", found, entropy)


def recorded_of(finding: Finding, step: Step, layer: int, weights: Tensor) -> None:
    """The rows that are recorded with a step, as far as they are off by more than their quantisation may be."""
    assert step.attention_rows
    first, rows = step.position - weights.shape[-1], list[Tensor]()
    for head, row in enumerate(weights, 1):
        if (found := step.attention_rows.row(layer + 1, head)) is None:
            finding.gaps["recorded rows"] = math.inf
            return
        of_keys = sum(found.weights) + found.rest
        rows.append(row * of_keys if float(row.sum()) - of_keys > TOLD_BEFORE else row)
    for named, row in ((None, torch.stack(rows).mean(0)), *enumerate(rows, 1)):
        found = step.attention_rows.row(layer + 1, named)
        assert found
        expected = torch.tensor([float(row[key - first]) if key >= first else 0.0 for key in found.keys])
        slack = torch.tensor([error_bound(float(weight)) + TOLD_BEFORE * float(weight) for weight in expected])
        apart = ((torch.tensor(found.weights) - expected).abs() - slack).clamp(min=0)
        finding.gap("recorded rows", apart, torch.zeros_like(apart))


def prompt_of(
    finding: Finding, model: PreTrainedModel, scores: dict[int, list[float]], whole: Tensor, prompt: list[int]
) -> None:
    logp = whole.log_softmax(-1)[:-1]
    entropy = -(logp.exp() * logp).sum(-1)
    surprisal = -logp.gather(-1, torch.tensor(prompt[1:])[:, None])[:, 0]
    if sorted(scores) != list(range(1, len(prompt))):
        finding.gaps["prompt"] = math.inf
        finding.notes.append(f"{len(scores)} tokens of the prompt scored, of {len(prompt) - 1}")
        return
    found = torch.tensor([scores[at] for at in sorted(scores)])
    finding.gap("prompt", found[:, SCORES.index("entropy")], entropy)
    finding.gap("prompt", found[:, SCORES.index("surprisal")], surprisal)
    if BOUND < (gap := finding.gaps["prompt"]) < math.inf:
        rounding = float((logp - exact(model, prompt).log_softmax(-1)[:-1]).abs().max())
        finding.notes.append(f"prompt {gap:.2g} off; float32 itself is {rounding:.2g} from float64")
        if gap <= 4 * rounding:  # sums in another order, at the worst of a thousand tokens
            finding.gaps["prompt"] = BOUND


def exact(model: PreTrainedModel, prompt: list[int]) -> Tensor:
    """(n, vocab) logits of one pass in float64."""
    with torch.no_grad():
        logits: Tensor = read(copy.deepcopy(model).double(), None, torch.tensor([prompt])).logits[0]
    return logits
