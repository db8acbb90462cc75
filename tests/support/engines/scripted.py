"""Events as a small engine would send them: 3 layers of 2 heads, a prompt of 3 tokens."""

import math

from made_steps import grid, make_step

from tui_entropy.records.events import Event, Started
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Candidate, PromptToken, Stage, Step
from tui_entropy.state.session_view import SessionView

LAYERS, HEADS, PROMPT = 3, 2, 3


def started(run: int = 1) -> Started:
    prompt_tokens = tuple(PromptToken(i, word.encode(), word) for i, word in enumerate(("The", " capital", " is")))
    return Started(run, "The capital is", None, False, prompt_tokens, Knobs(), (), 64)


def step(index: int, word: str = " Paris", run: int = 1) -> Step:
    keys = PROMPT + index
    share = (index % 4 + 1) / 5
    return make_step(
        index, word.encode(), keys, LAYERS, run=run,
        entropy=share, varentropy=share / 2, surprisal=share * 2, rank=1.0 + index % 3, logit_margin=share * 3,
        prob_margin=share / 4, uniform_kl=9 - share,
        final_entropy=share / 3, final_prob=0.5,
        candidates=(
            Candidate(100 + index, word.encode(), math.log(0.7), 1.0),
            Candidate(7, b" \xff", math.log(0.1), 0.0, "top_p"),
        ),
        stages=(Stage("top_k", 40, 0.9, share / 2), Stage("top_p", 1, 0.5, share / 3)),
        stage_probs=grid([[0.75, 0.75, 0.1], [1.0, 1.0, 0.0]]),
        head_entropy=grid([[share * math.log(keys)] * HEADS] * LAYERS),
        head_varentropy=grid([[share] * HEADS] * LAYERS),
        attention=grid([[share, share / 2, share * 2]] * LAYERS),
        blocks=grid([[0.0, 1.0, 24.0 + block] for block in range(LAYERS)]),
        strays=(2,) if index % 5 == 4 else (),
        entropy_z=None if index < 16 else 0.5, attention_z=None if index < 16 else -0.5,
    )  # fmt: skip


def logged(*events: Event) -> SessionView:
    log = SessionView()
    for event in events:
        log.append(event)
    return log
