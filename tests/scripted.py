"""Events as a small engine would send them: 3 layers of 2 heads, a prompt of 3 tokens."""

import math

from tui_entropy.log import Log
from tui_entropy.records import Candidate, Event, Grid, Knobs, Piece, Started, Step

LAYERS, HEADS, PROMPT = 3, 2, 3


def started(run: int = 1) -> Started:
    pieces = tuple(Piece(i, word.encode(), word) for i, word in enumerate(("The", " capital", " is")))
    return Started(run, "The capital is", None, False, pieces, Knobs(), (), 64)


def step(index: int, word: str = " Paris", run: int = 1) -> Step:
    keys = PROMPT + index
    share = (index % 4 + 1) / 5
    return Step(
        run=run,
        index=index,
        position=keys,
        token_id=100 + index,
        data=word.encode(),
        text=word,
        entropy=share,
        varentropy=share / 2,
        surprisal=share * 2,
        rank=1 + index % 3,
        final_entropy=share / 3,
        final_prob=0.5,
        candidates=(
            Candidate(100 + index, word.encode(), math.log(0.7), 1.0),
            Candidate(7, b" \xff", math.log(0.1), 0.0, "top_p"),
        ),
        survivors=(("top_k", 40), ("top_p", 1)),
        head_entropy=Grid.of([[share * math.log(keys)] * HEADS] * LAYERS),
        visible_keys=(keys,) * LAYERS,
        block_mean=(0.0,) * LAYERS,
        block_std=(1.0,) * LAYERS,
        block_norm=(24.0,) * LAYERS,
        forward_seconds=0.04,
        sample_seconds=0.002,
        at=0.045 * (index + 1),
    )


def logged(*events: Event) -> Log:
    log = Log()
    for event in events:
        log.append(event)
    return log
