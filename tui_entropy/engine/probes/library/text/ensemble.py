"""Ensemble: how sure the model is of this token, and how much of its doubt its own slight changes disagree on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from msgspec import Meta, Struct
from msgspec.structs import replace
from torch import Tensor

from tui_entropy.core.errors import UserError
from tui_entropy.core.files import text_of
from tui_entropy.engine.attribution.embedded_text import embedded_text
from tui_entropy.engine.ensembles.dropout import dropout_on
from tui_entropy.engine.ensembles.spread import Spread
from tui_entropy.engine.ensembles.weight_noise import noisy_layers, weight_noise
from tui_entropy.engine.instruments.tensor_metrics import entropy, kl
from tui_entropy.engine.probes.probe import PASSES, Difference, Probe, ProbeContext, ProbeEvidence, Unavailable
from tui_entropy.records.model import ModelCard
from tui_entropy.records.probes.ask import ProbeAnswer
from tui_entropy.records.probes.panels import Cell, Column, Note, Panel, Table, Tokens

Source = Literal["dropout", "weight-noise", "vectors", "prompts"]
PER_TOKEN = 12
"""Numbers as wide as the residual stream that a block works with for each token of a pass."""


class EnsembleOptions(Struct, frozen=True, forbid_unknown_fields=True):
    source: Annotated[Source, Meta(description="In what the members differ.")] = "dropout"
    n: Annotated[int, Meta(ge=2, le=256, description="Members, of dropout and weight-noise.")] = 8
    noise: Annotated[
        float, Meta(ge=0, le=1, description="Of weight-noise: its size as a share of a matrix's root mean square.")
    ] = 0.02
    prompts: Annotated[
        str, Meta(max_length=4096, description="Of prompts: a file with one in each line, such as paraphrases.")
    ] = ""
    seed: Annotated[int, Meta(ge=0, le=2**31, description="Of what is drawn; with position and member.")] = 0
    k: Annotated[int, Meta(ge=1, le=40, description="How many candidates are told.")] = 10


class Member(NamedTuple):
    label: str
    logits: Tensor
    """(vocab,) float32 of the token asked about."""


def compute(at: ProbeContext, options: EnsembleOptions) -> Iterator[Panel]:
    """What the members say together, of the candidates, and one by one. Each reads the whole text before."""
    plain = Member("the model as it is", _read(at, _ids(at), list(at.sequence.offsets[: at.position])))
    about, members = MEMBERS[options.source](at, options)
    found = tuple(members) or (Member("a pass with nothing to drop", plain.logits),)
    logp = torch.stack([member.logits.double().log_softmax(-1).cpu() for member in (plain, *found)])
    chosen = at.token_id if at.token_id is not None else int(logp[0].argmax())
    spread = Spread.of(logp[1:])
    yield Note(f"an ensemble by {options.source}", about)
    yield _parts(spread, logp, chosen)
    yield _candidates(at, spread, logp, chosen, options.k)
    yield _members(at, (plain, *found), logp, chosen)


# --- Members ------------------------------------------------------------------------------------------------


def _dropout(at: ProbeContext, options: EnsembleOptions) -> tuple[str, Iterator[Member]]:
    """Gal and Ghahramani 2016. One pass tells whether anything drops at all."""
    attention = at.loaded.architecture.attention_modules
    ids, offsets = _ids(at), list(at.sequence.offsets[: at.position])
    with dropout_on(attention, _seed(options, at, 0)) as mode:
        first = _read(at, ids, offsets)
    if not mode.n_active:
        return (
            "This model has no active dropout, so the variance is zero by construction and says nothing of how sure "
            "it is: source=weight-noise, vectors or prompts has members that differ.",
            iter(()),
        )

    def members() -> Iterator[Member]:
        yield Member("pass 1", first)
        for nth in range(1, options.n):
            at.progress(nth, options.n)
            with dropout_on(attention, _seed(options, at, nth)):
                yield Member(f"pass {nth + 1}", _read(at, ids, offsets))

    return f"The whole text read {options.n} times with dropout on, as in training.", members()


def _weight_noise(at: ProbeContext, options: EnsembleOptions) -> tuple[str, Iterator[Member]]:
    layers = noisy_layers(at.loaded.architecture.blocks)
    if not layers:
        raise Unavailable("its blocks have no linear layers whose weights can be read as matrices")
    ids, offsets = _ids(at), list(at.sequence.offsets[: at.position])

    def members() -> Iterator[Member]:
        for nth in range(options.n):
            at.progress(nth, options.n)
            with weight_noise(layers, options.noise, _seed(options, at, nth)):
                yield Member(f"noise {nth + 1}", _read(at, ids, offsets))

    about = (
        f"The whole text read {options.n} times, each time with noise of {100 * options.noise:g} % on the weights of "
        f"{len(layers)} linear layers. How much noise is fair nobody knows: compare tokens under the same."
    )
    return about, members()


def _vectors(at: ProbeContext, options: EnsembleOptions) -> tuple[str, Iterator[Member]]:
    state = at.state
    if not state.vectors:
        raise Unavailable("there are no control vectors: --vector adds some")

    def members() -> Iterator[Member]:
        yield Member("no vector", _read(at, _ids(at), [{}] * at.position))
        for nth, vector in enumerate(state.vectors):
            at.progress(nth + 1, len(state.vectors) + 1)
            alone = (replace(vector, on=True, schedule=(), condition=""),)
            offsets = state.offsets_of(alone, None)
            yield Member(f"{vector.name} {vector.amount}", _read(at, _ids(at), [offsets] * at.position))

    return "The whole text read under no vector, and under each of the vectors alone at its strength.", members()


def _prompts(at: ProbeContext, options: EnsembleOptions) -> tuple[str, Iterator[Member]]:
    if not options.prompts:
        raise UserError("an ensemble by prompts needs some: give prompts=FILE, with one in each line")
    try:
        lines = [line for line in text_of(Path(options.prompts)).splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise UserError(f"{options.prompts} cannot be read ({error}): name a file of UTF-8 text") from None
    if not lines:
        raise UserError(f"{options.prompts} has no prompt: write one in each line")
    started, sequence = at.run.started, at.sequence
    written = sequence.ids[sequence.n_prompt : at.position]

    def members() -> Iterator[Member]:
        for nth, line in enumerate(lines):
            at.progress(nth, len(lines))
            prompt = at.loaded.tokenizer.encode(line, started.system, started.chat)
            ids = torch.cat([torch.tensor(prompt, device=written.device, dtype=written.dtype), written])
            offsets = [sequence.offsets[0]] * len(prompt) + list(sequence.offsets[sequence.n_prompt : at.position])
            yield Member(line, _read(at, ids, offsets))

    return "What is written so far, read behind each of these prompts in place of its own.", members()


MEMBERS: dict[str, Callable[[ProbeContext, EnsembleOptions], tuple[str, Iterator[Member]]]] = {
    "dropout": _dropout,
    "weight-noise": _weight_noise,
    "vectors": _vectors,
    "prompts": _prompts,
}


def _ids(at: ProbeContext) -> Tensor:
    return at.sequence.ids[: at.position]


def _seed(options: EnsembleOptions, at: ProbeContext, nth: int) -> int:
    """Of (seed, position, member), so that each of them can be had again alone."""
    text = f"{options.seed} {at.position} {nth}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "little")


def _read(at: ProbeContext, ids: Tensor, offsets: Sequence[Mapping[int, Tensor]]) -> Tensor:
    """(vocab,) float32 after a text, all of which is read under these offsets of its tokens."""
    with embedded_text(at.loaded, at.instruments, ids, offsets, {}) as text:
        return text.logits(text.vectors[None])[0]


# --- Panels -------------------------------------------------------------------------------------------------


def _parts(spread: Spread, logp: Tensor, chosen: int) -> Table:
    p = logp[1:, chosen].exp()
    agreed = float((logp[1:].argmax(-1) == logp[0].argmax()).double().mean())
    rows: list[tuple[Cell, ...]] = [
        ("total: entropy of the mean", spread.total, "everything that is not known"),
        ("aleatoric: mean of the entropies", spread.aleatoric, "what no member knows better: the text is open here"),
        ("epistemic: mutual information", spread.epistemic, "what members disagree on: the model is unsure"),
        ("entropy of the model as it is", float(entropy(logp[0])), "without any change"),
    ]
    title = (
        f"uncertainty; the same token on top in {100 * agreed:.0f} % of the members, p of the written one "
        f"{100 * float(p.mean()):.2f} % ± {100 * float(p.std(correction=0)):.2f}"
    )
    return Table(title, (Column("part"), Column("entropy", "nats"), Column("what it is")), tuple(rows))


def _candidates(at: ProbeContext, spread: Spread, logp: Tensor, chosen: int, k: int) -> Table:
    k = min(k, len(spread.mean))
    ids = list(dict.fromkeys([*spread.mean.topk(k).indices.tolist(), chosen]))
    p = logp.exp()
    rows = tuple(
        (
            at.token(one),
            float(p[0, one]),
            float(spread.mean[one]),
            float(spread.variance[one]),
            float(p[1:, one].min()),
            float(p[1:, one].max()),
        )
        for one in ids
    )
    columns = (
        Column("token"), Column("p as it is", "share"), Column("mean p", "share"), Column("variance"),
        Column("least", "share"), Column("most", "share"),
    )  # fmt: skip
    return Table("candidates over the members", columns, rows)


def _members(at: ProbeContext, members: tuple[Member, ...], logp: Tensor, chosen: int) -> Table:
    top, entropies, far = logp.argmax(-1).tolist(), entropy(logp).tolist(), kl(logp, logp[0]).tolist()
    rows = tuple(
        (member.label, at.token(best), bits, float(row[chosen].exp()), nats)
        for member, best, bits, row, nats in zip(members, top, entropies, logp, far, strict=True)
    )
    columns = (
        Column("member"), Column("most probable"), Column("entropy", "nats"), Column("p of the written", "share"),
        Column("KL from as it is", "nats"),
    )  # fmt: skip
    return Table("each member", columns, rows)


# --- Doctor -------------------------------------------------------------------------------------------------


def check(answer: ProbeAnswer, evidence: ProbeEvidence) -> Iterator[Difference]:
    """The model as it is against a plain pass; the split against its own law and the members' entropies."""
    _, parts, candidates, members = answer.panels
    assert isinstance(parts, Table) and isinstance(candidates, Table) and isinstance(members, Table)
    logp = evidence.logp()
    p, size = np.exp(logp), float(np.abs(logp).max())
    entropy = float(-(p[p > 0] * logp[p > 0]).sum())
    yield Difference(parts.rows[3][1], entropy, np.log(len(logp)))  # type: ignore[arg-type]
    yield Difference(members.rows[0][2], entropy, np.log(len(logp)))  # type: ignore[arg-type]
    yield Difference(members.rows[0][3], p[evidence.step.token_id], size)  # type: ignore[arg-type]
    for token, share, *_ in candidates.rows:
        assert isinstance(token, Tokens)
        yield Difference(share, p[token.ids[0]], size)  # type: ignore[arg-type]
    total, aleatoric, epistemic, _ = (row[1] for row in parts.rows)
    told = np.array([row[2] for row in members.rows[1:]], dtype=np.float64)
    yield Difference(aleatoric, told.mean(), np.log(len(logp)))  # type: ignore[arg-type]
    yield Difference(total, aleatoric + epistemic, np.log(len(logp)))  # type: ignore[arg-type,operator]


def memory(card: ModelCard, position: int, options: EnsembleOptions) -> int:
    """What a pass over the text works with, its noise, and the members' distributions."""
    members = options.n + 1
    noise = 4 * 12 * card.d_model**2 if options.source == "weight-noise" else 0
    return 4 * PER_TOKEN * position * card.d_model + noise + 3 * 8 * members * card.vocab


PROBE = Probe(
    "ensemble",
    "How sure the model is of this token, and what of its doubt members of an ensemble disagree on.",
    PASSES,
    EnsembleOptions,
    compute,
    check,
    memory=memory,
    aliases=("dropout", "mc-dropout"),
)
