"""Events made by hand: a run of a small imaginary model, the same every time."""

from __future__ import annotations

import math
import random
import re

import numpy as np
from made_steps import grid, make_step

from tui_entropy.records.events import KnobsChanged, Memory, Prefilled, Ready, Started, VectorsChanged
from tui_entropy.records.model import ModelCard
from tui_entropy.records.probes.attention_rows import AttentionRows
from tui_entropy.records.quantised_rows import QuantisedRows, quantised
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Vector
from tui_entropy.records.step import Candidate, PromptToken, Stage, Step
from tui_entropy.state.session_view import SessionView
from tui_entropy.state.step_store import StepStore
from tui_entropy.ui.keys.branch_choice import BranchesState
from tui_entropy.ui.keys.lane_choices import LanesState
from tui_entropy.ui.keys.probe_choice import ProbesState
from tui_entropy.ui.keys.session_choice import SessionsState
from tui_entropy.ui.pages.layers import LayersState
from tui_entropy.ui.pages.numbers import NumbersState
from tui_entropy.ui.pages.runs.continuations import FanState
from tui_entropy.ui.pages.waterfall import WaterfallState
from tui_entropy.ui.panes.heads import HeadsState
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.jump_targets import JumpState
from tui_entropy.ui.views.pane_layout import PaneLayout

LAYERS, HEADS = 30, 9
PROMPT = "What is the capital of France? Answer in one sentence."
WORDS = re.findall(
    r" ?\w+|\n|[^\w\s]",
    " The capital of France is Paris, a city that sits on the Seine and has been the seat of its kings.\n"
    "It is known as ville lumière, 東京 is not in it.",
)
WARM = Vector("warm", "built in", (10, 11, 12), 1.0, False)


def card(**fields: object) -> ModelCard:
    made = dict(
        name="HuggingFaceTB/SmolLM2-135M-Instruct", revision=None, source="", note="", device="cpu", dtype="float32",
        n_layers=LAYERS, n_heads=HEADS, n_kv_heads=3, d_model=576, vocab=49152, context=8192,
        layer_kinds=("full",) * LAYERS, windows=(None,) * LAYERS, attention=(True,) * LAYERS, has_chat_template=True,
        versions={},
    )  # fmt: skip
    return ModelCard(**(made | fields))  # type: ignore[arg-type]


def step(index: int = 0, text: str | bytes = " word", position: int | None = None, **fields: object) -> Step:
    """A step whose numbers follow from its index alone."""
    luck = random.Random(index)
    data = text if isinstance(text, bytes) else text.encode()
    entropy = abs(math.sin(index / 3)) * 3.5 + luck.random() * 0.5
    first = math.exp(-entropy / 3)
    probs = [first * (1 - first) ** n for n in range(20)]
    candidates = tuple(
        Candidate(100 + n, data if n == 0 else f" other{n}".encode(), math.log(p), p / 0.95 if n < 12 else 0.0,
                  None if n < 12 else "top_p")
        for n, p in enumerate(probs)
    )  # fmt: skip
    at = 40 + index if position is None else position
    shares = [[luck.random() ** 2 * math.log(at) for _ in range(HEADS)] for _ in range(LAYERS)]
    made = dict(
        entropy=entropy, varentropy=entropy**2 / 3, surprisal=-math.log(first), rank=1.0,
        logit_margin=-math.log(max(1 - first, 1e-9)), prob_margin=first * first, uniform_kl=math.log(49152) - entropy,
        token_id=100, perplexity=4.2 + math.sin(index), window_perplexity=4.0 + math.cos(index),
        final_entropy=entropy / 2, final_prob=first / 0.95, candidates=candidates,
        stages=(Stage("temperature", 49152, 1.0, entropy / 1.5), Stage("top_k", 40, 0.98, entropy / 1.8),
                Stage("top_p", 12, 0.95, entropy / 2)),
        stage_probs=grid([[p * s for p in (probs[0], *probs)] for s in (1.0, 1.02)]
                         + [[p / 0.95 * (n <= 12) for n, p in enumerate((probs[0], *probs))]]),
        head_entropy=grid(shares), head_varentropy=grid([[share / 2 for share in row] for row in shares]),
        attention=grid([[0.2 + luck.random(), luck.random(), 1 + luck.random()] for _ in range(LAYERS)]),
        blocks=grid([[0.01 * n, 1.0 + n / 10, 24.0 + 3 * n + 2 * math.sin(index / 5)] for n in range(LAYERS)]),
        strays=(3, 4) if index % 17 == 16 else (), at=index / 22.4,
    )  # fmt: skip
    return make_step(index, data, at, LAYERS, **(made | fields))


def started(prompt: str = PROMPT, chat: bool = True, template: bool = True, **fields: object) -> Started:
    text = prompt
    if chat and template:
        text = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    prompt_tokens = tuple(
        PromptToken(n, word.encode(), word) for n, word in enumerate(re.findall(r"<\|\w+\|>| ?[^\s<]+|\s|<", text))
    )
    made = dict(
        run=1,
        prompt=prompt,
        system=None,
        chat=chat,
        prompt_tokens=prompt_tokens,
        knobs=Knobs(),
        vectors=(WARM,),
        max_tokens=400,
    )
    return Started(**(made | fields))  # type: ignore[arg-type]


def log(n_steps: int = 37, texts: list[str] | None = None, marks: bool = True, **fields: object) -> SessionView:
    """A run of `n_steps` steps, with a knob turned at step 9 and a vector switched on at step 20."""
    made = SessionView()
    begin = started(**fields)  # type: ignore[arg-type]
    made.append(Ready(card(), (WARM,)))
    made.append(begin)
    made.append(Prefilled(1, len(begin.prompt_tokens), len(begin.prompt_tokens), 0.1))
    made.append(Memory(812_000_000, None, 3_400_000))
    words = texts or WORDS
    for n in range(n_steps):
        if marks and n == 9:
            made.append(KnobsChanged(1, 9, Knobs(temperature=1.2)))
        if marks and n == 20:
            made.append(VectorsChanged(1, 20, (Vector("warm", "built in", (10, 11, 12), 1.0, True),)))
        made.append(step(n, words[n % len(words)], len(begin.prompt_tokens) + n))
    return made


def kept(*steps: Step) -> StepStore:
    found = StepStore()
    for one in steps:
        found.append(one)
    return found


def attention(n_queries: int = 8, n_keys: int = 40, last: int = 44, first_key: int = 0) -> AttentionRows:
    luck = random.Random(3)
    weights = []
    for query in range(last - n_queries + 1, last + 1):
        row = [luck.random() ** 6 / 3 if key <= query else math.nan for key in range(first_key, first_key + n_keys)]
        row[0] = 0.7
        weights.append(row)
    queries = tuple(range(last - n_queries + 1, last + 1))
    return AttentionRows(29, None, queries, first_key, grid(weights), (0.1,) * n_queries)


def top_rows(
    keys: dict[int, float], shown: tuple[int, int] | None = None, of_head: dict[int, float] | None = None
) -> QuantisedRows:
    """Recorded rows, the same for the mean of heads of every block, and perhaps those of one head."""

    def row(weights: dict[int, float]) -> list[float]:
        blank = [0.0] * (4 - len(weights))
        return [*weights.values(), *blank, *weights, *blank, 1 - sum(weights.values())]

    beside = [row(of_head)] if of_head else []
    return quantised(np.array([row(keys)] * LAYERS + beside, np.float32), LAYERS, 0, shown)


def recorded_log(n_steps: int = 9, **fields: object) -> SessionView:
    """A run whose steps look at the first key, at a token of the prompt, and at the one before."""
    made = log(0, marks=False)
    n_prompt = len(made.run.started.prompt_tokens)
    for n in range(n_steps):
        at = n_prompt + n
        rows = top_rows({0: 0.5, 3: 0.3, at - 1: 0.1}, (17, 2), {0: 0.2, 5: 0.1, at - 1: 0.4})
        made.append(step(n, WORDS[n % len(WORDS)], at, **({"attention_rows": rows} | fields)))
    return made


RECORDS = (
    NumbersState, WaterfallState, BranchesState, LanesState, FanState, ProbesState, JumpState, PaneLayout,
    SessionsState, HeadsState, LayersState,
)  # fmt: skip
"""What pages keep."""


def kept_by_pages(**fields: object) -> dict[type, object]:
    """What pages keep (Frame.pages) with these values of theirs, by the names of the fields."""
    pages = {}
    for record in RECORDS:
        if own := {name: fields.pop(name) for name in record.__dataclass_fields__.keys() & fields.keys()}:
            pages[record] = record(**own)
    assert not fields, fields
    return pages


def value(frame: Frame, name: str) -> object:
    """What a frame says under this name, or else the page that keeps it."""
    found = (record for record in RECORDS if name in record.__dataclass_fields__)
    return getattr(next(map(frame.of, found), frame), name)
