"""Attribution: which tokens of the text before made the model say this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from msgspec import Meta, Struct
from torch import Tensor

from tui_entropy.engine.attribution.embedded_text import EmbeddedText, NoGradient, embedded_text, mean_embedding
from tui_entropy.engine.attribution.integrated import integrated_gradients
from tui_entropy.engine.attribution.relevance import NoRule, relevance
from tui_entropy.engine.probes.probe import GRADIENT, Difference, Probe, ProbeContext, ProbeEvidence, Unavailable
from tui_entropy.engine.probes.target import AgainstName, TokenName, target_of
from tui_entropy.records.model import ModelCard
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.panels import Column, Note, Panel, Table, TintedText

MAX_GAP = 0.05
"""Of integrated gradients, as a share of what they should sum to: more, and they are called ≈."""
MAX_REMAINDER = 0.01
"""The same of relevance."""
TOGETHER = 8
"""Texts that are read beside each other."""
RANDOM_TENTHS = 8
PER_TOKEN = 40
"""Numbers as wide as the residual stream that a block keeps of each token for a gradient."""

Method = Literal["saliency", "input-x-gradient", "integrated-gradients", "attn-lrp", "leave-one-out"]


class AttributionOptions(Struct, frozen=True, forbid_unknown_fields=True):
    method: Annotated[Method, Meta(description="How it is found out.")] = "input-x-gradient"
    token: TokenName | None = None
    against: AgainstName | None = None
    norm: Annotated[Literal["l1", "l2"], Meta(description="Of saliency: sum of sizes, or length, of a gradient.")] = (
        "l1"
    )
    softmax: Annotated[
        Literal["taylor", "held"],
        Meta(
            description="Of attn-lrp: what reaches attention weights goes on to queries and keys, or they are held "
            "and values have all of it, so that the tokens sum to the logit."
        ),
    ] = "taylor"
    budget: Annotated[
        int, Meta(ge=16, le=100_000, description="Of integrated gradients: how many gradients at most.")
    ] = 128
    deletion: Annotated[
        bool,
        Meta(description="The tenth that counts most is masked, and random tenths, and what comes of it is told."),
    ] = False
    k: Annotated[int, Meta(ge=1, le=400, description="How many of the largest tokens are told.")] = 12


class Found(NamedTuple):
    values: Tensor
    """(n,) of each token before."""
    unit: str
    about: str
    """What the values are and what they sum to."""
    is_rough: bool = False


def compute(at: ProbeContext, options: AttributionOptions) -> Iterator[Panel]:
    """A value for each token before, as a tint and as a table."""
    sequence, n = at.sequence, at.position
    best = at.token_id
    if best is None and options.token is None:
        logits = at.pass_before().logits
        assert logits is not None
        best = int(logits.argmax())
    target = target_of(at, options.token, options.against, best if best is not None else 0)
    offsets = sequence.offsets[:n]
    with embedded_text(at.loaded, at.instruments, sequence.ids[:n], offsets, target.signs) as text:
        try:
            found = METHODS[options.method](text, options, at.progress)
        except (NoGradient, NoRule) as reason:
            raise Unavailable(str(reason)) from None
        deletion = _deletion(text, found.values, n, at.progress) if options.deletion else None
    mark = "≈ " if found.is_rough else ""
    values = found.values.double().cpu().tolist()
    yield Note(f"{mark}{options.method} of {target.name}", found.about)
    yield TintedText.of(f"{mark}what spoke for {target.name}", values, 0, found.unit)
    yield _largest(at, found, values, options.k, mark)
    if deletion is not None:
        yield deletion


def _largest(at: ProbeContext, found: Found, values: list[float], k: int, mark: str) -> Table:
    ids = at.sequence.ids.tolist()
    whole = sum(map(abs, values)) or 1.0
    order = sorted(range(len(values)), key=lambda place: -abs(values[place]))[:k]
    rows = [(at.token(ids[place]), place, values[place], abs(values[place]) / whole) for place in order]
    columns = Column("token"), Column("position"), Column("value", found.unit), Column("of all", "share")
    return Table(f"{mark}the tokens that count most", columns, tuple(rows))


# --- Methods -------------------------------------------------------------------------------------------------

Progress = Callable[[float, float], None]


def _saliency(text: EmbeddedText, options: AttributionOptions, progress: Progress) -> Found:
    """Simonyan et al. 2014."""
    _, gradient = text.gradient(text.vectors)
    values = torch.linalg.vector_norm(gradient, ord=1 if options.norm == "l1" else 2, dim=-1)
    name = "sum of the sizes" if options.norm == "l1" else "length"
    return Found(values, "", f"{name} of the gradient of ln p with respect to each token's embedding; it has no sign")


def _input_x_gradient(text: EmbeddedText, options: AttributionOptions, progress: Progress) -> Found:
    value, gradient = text.gradient(text.vectors)
    values = (text.vectors.float() * gradient).sum(-1)
    about = (
        f"embedding times gradient; the sum, {float(values.sum()):.3g} nats, need not be the whole, {value:.3g} nats"
    )
    return Found(values, "nats", about)


def _integrated(text: EmbeddedText, options: AttributionOptions, progress: Progress) -> Found:
    """From the mean embedding, but for the first token: it is what attention rests on, and without it a text is no
    text to a model, so its own embedding stays."""
    if len(text.ids) < 2:
        raise NoGradient("there is one token before it, and that is left out of the path")
    baseline = mean_embedding(text.loaded.architecture, text.vectors).expand_as(text.vectors).clone()
    baseline[0] = text.vectors[0]
    found = integrated_gradients(text.gradient, text.vectors, baseline, MAX_GAP, options.budget, progress)
    rough = not found.gap_share <= MAX_GAP
    why = f"≈ since {100 * MAX_GAP:.0f} % was wanted and the budget of {options.budget} is used up; " if rough else ""
    about = (
        f"gap {100 * found.gap_share:.1f} %: the values sum to {float(found.attributions.sum()):.4g} nats and the "
        f"difference from the baseline is {found.value - found.baseline:.4g} nats; {why}{found.steps} gradients; "
        "the baseline is the mean embedding, and the first token is left out of the path"
    )
    return Found(found.attributions, "nats", about, rough)


def _attn_lrp(text: EmbeddedText, options: AttributionOptions, progress: Progress) -> Found:
    def logit(vectors: Tensor) -> Tensor:
        return text.logit(text.logits(vectors))

    found = relevance(text.loaded.model, text.vectors, logit, options.softmax == "held")
    about = (
        f"relevance: tokens {float(found.tokens.sum()):.4g}, constants of softmaxes {found.softmax:.4g}, biases "
        f"{found.biases:.4g}, remainder {found.remainder:.2g}; together the "
        f"{'difference of logits' if len(text.signs) > 1 else 'logit'}, {found.target:.4g}"
    )
    rough = not abs(found.remainder) <= MAX_REMAINDER * max(abs(found.target), 1.0)
    if rough:
        about += "; ≈ since no more than a hundredth was to remain"
    return Found(found.tokens, "nats" if len(text.signs) > 1 else "", about, rough)


def _leave_one_out(text: EmbeddedText, options: AttributionOptions, progress: Progress) -> Found:
    """The text without each of its tokens, read anew."""
    n = len(text.ids)
    if n < 2:
        raise NoGradient("there is one token before it, and nothing is left without it")
    everything = torch.arange(n, device=text.ids.device)
    (whole,) = text.target(text.logits_without(everything[None]))
    kept = torch.stack([everything[everything != place] for place in range(n)])
    values: list[Tensor] = []
    for rows in torch.split(kept, TOGETHER):
        progress(len(values), n)
        values.extend(whole - text.target(text.logits_without(rows)))
    about = f"what ln p ({float(whole):.4g} nats with all of them) loses without each token: {n} passes"
    return Found(torch.stack(values), "nats", about)


METHODS: dict[str, Callable[[EmbeddedText, AttributionOptions, Progress], Found]] = {
    "saliency": _saliency,
    "input-x-gradient": _input_x_gradient,
    "integrated-gradients": _integrated,
    "attn-lrp": _attn_lrp,
    "leave-one-out": _leave_one_out,
}


def _deletion(text: EmbeddedText, values: Tensor, seed: int, progress: Progress) -> Table:
    """What the target becomes with a tenth of the tokens embedded as the mean of all. The first one stays."""
    n = len(text.ids)
    n_masked = max(n // 10, 1)
    if n < 3:
        raise Unavailable("there are too few tokens before it for a deletion test")
    mean, draws = mean_embedding(text.loaded.architecture, text.vectors), torch.Generator().manual_seed(seed)
    top = values[1:].topk(n_masked).indices.cpu() + 1
    masks = [
        torch.arange(0),
        top,
        *(torch.randperm(n - 1, generator=draws)[:n_masked] + 1 for _ in range(RANDOM_TENTHS)),
    ]
    told = []
    for nth, mask in enumerate(masks):
        progress(nth, len(masks))
        vectors = text.vectors.clone()
        vectors[mask] = mean
        told.append(float(text.target(text.logits(vectors[None]))))
    whole, masked, *others = told
    random = float(np.mean(others))
    beaten = sum(masked < other for other in others)
    return Table(
        f"deletion test: {n_masked} of {n} tokens masked; falls further than with {beaten} of {len(others)} random "
        "tenths",
        (Column("masked"), Column("ln p", "nats"), Column("it falls by", "nats")),
        (
            ("nothing", whole, 0.0),
            ("those that count most", masked, whole - masked),
            (f"random ones, mean of {len(others)}", random, whole - random),
        ),
    )


# --- Doctor --------------------------------------------------------------------------------------------------


def check(answer: ProbeAnswer, evidence: ProbeEvidence) -> Iterator[Difference]:
    """Each token's value against a gradient through the model's own eager attention."""
    expected = evidence.gradients(evidence.step.token_id)
    if expected is None:
        return
    (tint,) = (panel for panel in answer.panels if isinstance(panel, TintedText))
    products = expected[:, 0] * expected[:, 1]
    yield Difference(np.array(tint.values, dtype=np.float64), products.sum(-1), float(np.abs(products).sum()))


def memory(card: ModelCard, position: int, options: AttributionOptions) -> int:
    """Of leave-one-out what one pass works with; else what a pass keeps for the way back."""
    rows = TOGETHER if options.method == "leave-one-out" else card.n_layers
    return 4 * PER_TOKEN * rows * position * card.d_model


PROBE = Probe(
    "attribution",
    "Which tokens of the text before made the model say this one.",
    GRADIENT,
    AttributionOptions,
    compute,
    check,
    memory=memory,
)
