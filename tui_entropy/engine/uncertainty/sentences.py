"""The uncertainty scores of sentences: what those that are wanted need is had of the model, and no more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.scoring.passage import Passage, left_to_right
from tui_entropy.engine.scoring.scorer import OffsetsOf, PassageScores, Wanted, score
from tui_entropy.engine.scoring.texts import score_passages
from tui_entropy.engine.scoring.trial import together_of
from tui_entropy.engine.uncertainty import formulas
from tui_entropy.engine.uncertainty.columns import COLUMNS, TokenNumbers
from tui_entropy.engine.uncertainty.members import of_ensemble
from tui_entropy.engine.uncertainty.samples import LIKELIHOOD, samples
from tui_entropy.records.corpus.uncertainty import ENSEMBLES, ScoreSettings

Scores = dict[str, float | None]
"""Name of `ScoreSettings.names` -> its value; None is unknown."""


class ScoredSentence(NamedTuple):
    passage: Passage
    """Its scored tokens stand at its end."""
    n_prompt: int = 0
    """Tokens before it that are a prompt, which continuations go on from; 0 where there is none, and the whole of it
    is gone on from."""


def uncertainty_scores(
    loaded: Loaded,
    sentences: Sequence[ScoredSentence],
    settings: ScoreSettings,
    offsets: OffsetsOf | None = None,
    vectors: Sequence[OffsetsOf | None] = (),
    temperature: float = 1.0,
) -> list[Scores]:
    """Of each sentence. offsets: what steers the model; vectors: what steers the members of that ensemble.

    Models that fill in masked tokens have those of the family 'tokens' alone. Without a prompt there is none of what
    is told against it; where what steers hangs on the place of a token, nothing is drawn. Raises NotFinite.
    """
    found: list[Scores] = [{} for _ in sentences]
    if not sentences:
        return []
    _of_passes(loaded, sentences, settings, offsets, temperature, found)
    passages = [one.passage for one in sentences]
    if loaded.architecture.left_to_right:
        for family in ENSEMBLES:
            if settings.wants(family):
                _add(found, of_ensemble(loaded, passages, family, settings, offsets, vectors, temperature))
        if settings.wants("samples"):
            _add(found, _of_samples(loaded, sentences, settings, offsets, temperature))
    return [{name: its.get(name) for name in settings.names} for its in found]


def _add(found: Sequence[Scores], more: Iterable[Scores]) -> None:
    for its, new in zip(found, more, strict=True):
        its.update(new)


def _of_passes(
    loaded: Loaded,
    sentences: Sequence[ScoredSentence],
    settings: ScoreSettings,
    offsets: OffsetsOf | None,
    temperature: float,
    found: Sequence[Scores],
) -> None:
    """What one pass over each sentence tells, and one more over it without its prompt."""
    if not settings.wants("tokens", "prompt", "attention"):
        return
    n_layers, plain = loaded.architecture.n_layers, loaded.architecture.left_to_right
    attention = plain and settings.wants("attention")
    blocks = sorted({formulas.attention_block(n_layers), *formulas.rauq_blocks(n_layers)}) if attention else []
    diagonal = tuple(block for block in blocks if loaded.architecture.attention[block - 1])
    wanted = Wanted(COLUMNS, temperature=temperature, diagonal=diagonal)
    scored = list(score_passages(loaded, [one.passage for one in sentences], wanted, offsets))
    tokens = [TokenNumbers.of(its.scores) for its in scored]
    _add(found, map(formulas.of_tokens, tokens))
    if diagonal:
        _add(
            found, (_of_attention(*each, diagonal, n_layers) for each in zip(sentences, tokens, scored, strict=True))
        )
    prompted = [at for at, one in enumerate(sentences) if one.n_prompt and plain and settings.wants("prompt")]
    alone = {at: sentences[at].passage.ids[sentences[at].n_prompt :] for at in prompted}
    longer = [left_to_right(ids) for ids in alone.values() if len(ids) > 1]
    more = score(loaded, longer, Wanted(LIKELIHOOD, temperature=temperature), offsets, together=together_of(loaded))
    for at, ids in alone.items():
        without = next(more).scores[:, 0].double().numpy() if len(ids) > 1 else tokens[at].surprisal[:0]
        value = formulas.mean_pointwise_mutual_information(tokens[at].surprisal, without)
        found[at]["MeanPointwiseMutualInformation"] = value


def _of_attention(
    sentence: ScoredSentence, tokens: TokenNumbers, scored: PassageScores, blocks: Sequence[int], n_layers: int
) -> Scores:
    assert scored.diagonal is not None
    diagonals = dict(zip(blocks, scored.diagonal.double().numpy(), strict=True))
    middle = diagonals.get(formulas.attention_block(n_layers))
    positions = list(sentence.passage.positions)[1:]
    some = [diagonals[block][:, positions] for block in formulas.rauq_blocks(n_layers) if block in diagonals]
    return {
        "AttentionScore": None if middle is None else formulas.attention_score(middle),
        "RAUQ": formulas.rauq(tokens.surprisal, some) if some else None,
    }


def _of_samples(
    loaded: Loaded,
    sentences: Sequence[ScoredSentence],
    settings: ScoreSettings,
    offsets: OffsetsOf | None,
    temperature: float,
) -> Iterator[Scores]:
    """Those behind one prompt are drawn once."""
    known: dict[tuple[int, ...], Scores] = {}
    for one in sentences:
        ids = tuple(one.passage.ids[: one.n_prompt or None])
        pushes: Mapping[int, Tensor] = {} if offsets is None else offsets(one.passage)
        if any(push.dim() > 1 for push in pushes.values()):
            yield {}
            continue
        if ids not in known:
            drawn = samples(loaded, ids, settings, temperature, pushes)
            logprobs, lengths = [each.logprob for each in drawn], [len(each.token_ids) for each in drawn]
            said = [each.said for each in drawn]
            known[ids] = formulas.of_samples(logprobs, lengths, said) if drawn else {}
        yield known[ids]
