"""The uncertainty scores of a sentence: their names, what each is, and what has to be done for it.

Names and signs are those of lm-polygraph (Fadeeva et al. 2023): a higher score always means more uncertain. What they
call Perplexity is the mean of -ln p, and not its exponential.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

from tui_entropy.core.errors import UserError


class Score(NamedTuple):
    name: str
    family: str
    """What it is worked out from: 'tokens', 'prompt', 'attention', 'samples', or an ensemble."""
    unit: str
    """As of a `Column`."""
    meaning: str


SPREADS = ("total", "aleatoric", "epistemic")
"""What an ensemble is told by: the entropy of its mean, the mean of its entropies, and what is left."""
ENSEMBLES = {"dropout": "Dropout", "weight-noise": "WeightNoise", "vectors": "Vectors"}
"""Family -> what its columns begin with."""
OF_SPREADS = (
    "The entropy of the mean of the members",
    "The mean of the members' entropies: the text is open",
    "Total less aleatoric, the mutual information: the members disagree",
)

SCORES = (
    Score("MaximumSequenceProbability", "tokens", "nats", "-ln p of the whole sentence."),
    Score("Perplexity", "tokens", "nats", "The mean of -ln p over its tokens; it is not exponentiated."),
    Score("MeanTokenEntropy", "tokens", "nats", "The mean of the entropies."),
    Score("MaximumTokenProbability.mean", "tokens", "nats", "The mean of -ln p over all tokens but the last."),
    Score("MaximumTokenProbability.max", "tokens", "nats", "-ln p of the least probable token, the last left out."),
    Score("SelfCertainty", "tokens", "nats", "-KL(uniform || p), the mean."),
    Score("RenyiNeg", "tokens", "nats", "-Rényi divergence (1/2) from uniform at temperature 2, the mean."),
    Score("FisherRao", "tokens", "", "-Fisher-Rao distance of the same from uniform, 0 ... 1, the mean."),
    Score("MeanPointwiseMutualInformation", "prompt", "nats", "ln p without the prompt less that with it, the mean."),
    Score("AttentionScore", "attention", "nats", "-ln of what tokens give themselves, middle block, mean of heads."),
    Score("RAUQ", "attention", "nats", "-ln p carried on from token to token by attention, middle blocks."),
    Score("MonteCarloSequenceEntropy", "samples", "nats", "-ln p of what is drawn, the mean of draws."),
    Score("MonteCarloNormalizedSequenceEntropy", "samples", "nats", "The same by the token."),
    Score("SemanticEntropy", "samples", "nats", "-ln of the summed p of draws that say the same, the mean."),
    Score("SemanticEntropyEmpirical", "samples", "nats", "The entropy over what draws say, by how often they do."),
    *(
        Score(f"{title}.{part}", family, "nats", f"{meaning}; the mean.")
        for family, title in ENSEMBLES.items()
        for part, meaning in zip(SPREADS, OF_SPREADS, strict=True)
    ),
)  # fmt: skip
BY_NAME = {score.name: score for score in SCORES}
FAMILIES = tuple(dict.fromkeys(score.family for score in SCORES))
ALL = "all"


def score_names(text: str) -> tuple[str, ...]:
    """The scores of a list with commas, of names, families and 'all'; in the order of SCORES. Raises UserError."""
    chosen: set[str] = set()
    for word in filter(None, (part.strip() for part in text.split(","))):
        found = [one.name for one in SCORES if word in (ALL, one.family, one.name, one.name.partition(".")[0])]
        if not found:
            raise UserError(
                f"there is no uncertainty score {word!r}: take all, {', '.join(FAMILIES)}, or one of "
                f"{', '.join(dict.fromkeys(one.name.partition('.')[0] for one in SCORES))}"
            )
        chosen.update(found)
    if not chosen:
        raise UserError("no uncertainty score is named: take all, or some of " + ", ".join(FAMILIES))
    return tuple(one.name for one in SCORES if one.name in chosen)


class ScoreSettings(Struct, frozen=True):
    """Which scores are wanted, and what those that need more than one pass are worked out from."""

    names: tuple[str, ...]
    """Of SCORES, in their order."""
    samples: Annotated[int, Meta(ge=2, le=64)] = 10
    """Continuations that are drawn."""
    sample_tokens: Annotated[int, Meta(ge=1, le=128)] = 16
    """Tokens of each at most; it ends with its line."""
    members: Annotated[int, Meta(ge=2, le=256)] = 8
    """Of an ensemble by dropout or by noise on weights."""
    noise: float = 0.02
    """On weights, as a share of a matrix's root mean square."""
    seed: int = 0

    def wants(self, *families: str) -> bool:
        return any(BY_NAME[name].family in families for name in self.names)
