"""The loop with everything switched on, against transformers' own generate and forward on the same weights."""

from __future__ import annotations

import copy
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from figures import Figure, Settings, in_turns, ratio, spread
from msgspec.structs import replace as replace_knobs

from tui_entropy.engine.context import Context
from tui_entropy.engine.decode import Controls, decode, instruments
from tui_entropy.engine.loading import Loaded, load
from tui_entropy.records import Knobs, ModelSpec, Step
from tui_entropy.series import SERIES

NEW_TOKENS = 128
PREFILL_TOKENS = 4096


def loaded_model(settings: Settings) -> Loaded:
    """The model with an end of text that never comes, so that every contestant writes as many tokens."""
    loaded = load(ModelSpec(settings.model, device=settings.device), lambda progress: None)
    codec = copy.copy(loaded.codec)
    codec.eos_ids = frozenset()
    loaded.model.generation_config.eos_token_id = None
    loaded.model.generation_config.pad_token_id = 0
    return replace(loaded, codec=codec)


def prompt_ids(loaded: Loaded, length: int) -> list[int]:
    """English of that many tokens."""
    ids = loaded.codec.encode(" ".join(series.meaning for series in SERIES), None, chat=False)
    return (ids * (length // len(ids) + 1))[:length]


class Stopwatch:
    """When a call began, and when each of its tokens came. Also what `generate` calls a streamer."""

    def __init__(self) -> None:
        self.times = [time.perf_counter()]
        self.ids: list[int] = []

    def put(self, ids: torch.Tensor) -> None:
        if ids.dim() == 1:  # two dimensions: the prompt
            self.token(int(ids[0]))

    def token(self, token_id: int) -> None:
        self.ids.append(token_id)
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass

    @property
    def overall(self) -> float:
        """Tokens per second of the whole call, reading the prompt included."""
        return len(self.ids) / (self.times[-1] - self.times[0])

    @property
    def writing(self) -> float:
        """Tokens per second from the first token on."""
        return (len(self.ids) - 1) / (self.times[-1] - self.times[1])


def ours(
    loaded: Loaded, ids: list[int], new_tokens: int, pushes: Mapping[int, torch.Tensor] | None = None
) -> Stopwatch:
    knobs = Controls(Knobs(temperature=0.0), pushes or {})
    with instruments(loaded) as probes:
        watch = Stopwatch()
        for event in decode(loaded, probes, Context(loaded, ids, new_tokens), lambda: knobs, 1, False):
            if isinstance(event, Step):
                watch.token(event.token_id)
    return watch


def generate(loaded: Loaded, ids: list[int], new_tokens: int, **options: Any) -> Stopwatch:
    on_device = torch.tensor([ids], device=loaded.model.device)
    watch = Stopwatch()
    loaded.model.generate(
        on_device,
        attention_mask=torch.ones_like(on_device),
        max_new_tokens=new_tokens,
        do_sample=False,
        streamer=watch,
        **options,
    )
    return watch


@contextmanager
def eager(loaded: Loaded) -> Iterator[None]:
    before = loaded.model.config._attn_implementation
    loaded.model.set_attn_implementation("eager")
    try:
        yield
    finally:
        loaded.model.set_attn_implementation(before)


def generate_keeping_everything(loaded: Loaded, ids: list[int], new_tokens: int) -> Stopwatch:
    with eager(loaded):
        return generate(
            loaded,
            ids,
            new_tokens,
            output_attentions=True,
            output_hidden_states=True,
            output_logits=True,
            return_dict_in_generate=True,
        )


GOALS = {32: ">= 1.00", 1024: ">= 0.97", 4096: ">= 0.97"}
"""Of tokens per second, against plain generate."""


def decoding(settings: Settings) -> Iterator[Figure]:
    """Tokens per second, greedy, the same tokens for all; and the share of what the memory could give."""
    loaded, new_tokens = loaded_model(settings), 24 if settings.quick else NEW_TOKENS
    bandwidth = memory_bandwidth(loaded.model.device)
    yield Figure("memory, a large sum read over and over", bandwidth / 1e9, "GB/s", "")
    for length in (32, 1024) if settings.quick else (32, 1024, 4096):
        ids = prompt_ids(loaded, length)
        contestants = {"ours": ours, "generate": generate}
        if length == 1024:
            contestants["eager, everything kept"] = generate_keeping_everything
        calls = {name: partial(call, loaded, ids) for name, call in contestants.items()}
        for call in calls.values():
            call(2)
        calls = {name: partial(call, new_tokens) for name, call in calls.items()}
        watches = in_turns(calls, settings.rounds)
        share = [
            watch.writing * bytes_per_token(loaded, length + new_tokens // 2) / bandwidth for watch in watches["ours"]
        ]
        yield from _compared(length, watches)
        detail = "weights and cache read per token, over the memory's pace"
        yield Figure(f"fraction of the bound, prompt {length}", statistics.median(share), "", "", detail)


def memory_bandwidth(device: torch.device) -> float:
    """Bytes per second at which a tensor too large for any cache is read: the best of several."""
    large = torch.ones(2**28 if device.type == "cuda" else 2**26, device=device)
    paces = []
    for _ in range(8):
        began = time.perf_counter()
        float(large.sum())
        paces.append(large.nbytes / (time.perf_counter() - began))
    return max(paces)


def bytes_per_token(loaded: Loaded, context: int) -> int:
    """What a decode step has to read: every weight but a lookup table's, once, and all keys and values."""
    table = loaded.anatomy.embedding.get_parameter("weight")
    tied = table.data_ptr() == loaded.anatomy.unembedding.get_parameter("weight").data_ptr()
    weights = sum(parameter.nbytes for parameter in loaded.model.parameters()) - (0 if tied else table.nbytes)
    width = loaded.anatomy.d_model // loaded.anatomy.n_heads
    return weights + 2 * loaded.anatomy.n_layers * loaded.anatomy.n_kv_heads * width * context * table.element_size()


def others(settings: Settings) -> Iterator[Figure]:
    """The same text by other tools that look inside, prompt 32."""
    from contestants import installed

    loaded, new_tokens = loaded_model(settings), 16 if settings.quick else 48
    found, missing = installed(loaded)
    for sentence in missing:
        yield Figure(f"skipped: {sentence}", float("nan"), "", "")
    ids = prompt_ids(loaded, 32)
    calls = {"ours": partial(ours, loaded, ids, new_tokens)}
    calls |= {name: partial(write, ids, new_tokens) for name, write in found.items()}
    watches = in_turns(calls, settings.rounds)
    speeds = [watch.overall for watch in watches.pop("ours")]
    for name, theirs in watches.items():
        detail = f"ours {spread(speeds, 'tok/s')}, theirs {spread([watch.overall for watch in theirs], 'tok/s')}"
        yield Figure(f"ours / {name}", ratio(speeds, [watch.overall for watch in theirs]), "x", "", detail)


def steering(settings: Settings) -> Iterator[Figure]:
    """What a control vector on every block costs: ours and repeng's, each against itself without."""
    loaded, new_tokens = loaded_model(settings), 24 if settings.quick else 64
    ids = prompt_ids(loaded, 32)
    pushes = {block: torch.full((loaded.card.d_model,), 0.01) for block in range(1, loaded.card.n_layers + 1)}
    calls: dict[str, Any] = {
        "plain": partial(ours, loaded, ids, new_tokens),
        "steered": partial(ours, loaded, ids, new_tokens, pushes),
    }
    try:
        from contestants import repeng

        calls |= {
            "generate": partial(generate, loaded, ids, new_tokens),
            "repeng": partial(repeng(loaded, pushes), ids, new_tokens),
        }
    except ImportError as missing:
        yield Figure(f"skipped: repeng ({missing})", float("nan"), "", "")
    speeds = {name: [watch.writing for watch in found] for name, found in in_turns(calls, settings.rounds).items()}
    detail = f"plain {spread(speeds['plain'], 'tok/s')}"
    yield Figure("ours steered / plain", ratio(speeds["steered"], speeds["plain"]), "x", ">= 0.95", detail)
    if "repeng" in speeds:
        detail = f"repeng {spread(speeds['repeng'], 'tok/s')}"
        yield Figure("repeng / generate", ratio(speeds["repeng"], speeds["generate"]), "x", "", detail)
        yield Figure("ours steered / repeng", ratio(speeds["steered"], speeds["repeng"]), "x", "")


def _compared(length: int, watches: dict[str, list[Stopwatch]]) -> Iterator[Figure]:
    mine = watches.pop("ours")
    speeds = [watch.overall for watch in mine]
    yield Figure(f"ours, prompt {length}, {len(mine[0].ids)} new", statistics.median(speeds), "tok/s", "")
    for name, theirs in watches.items():
        goal = GOALS[length] if name == "generate" else ">= 1.5"
        same = sum(a == b for a, b in zip(mine[-1].ids, theirs[-1].ids, strict=True))
        detail = f"{name} {spread([watch.overall for watch in theirs], 'tok/s')}; {same} tokens the same"
        value = ratio(speeds, [watch.overall for watch in theirs])
        yield Figure(f"ours / {name}, prompt {length}, whole call", value, "x", goal, detail)
        value = ratio([watch.writing for watch in mine], [watch.writing for watch in theirs])
        yield Figure(f"ours / {name}, prompt {length}, after the first token", value, "x", "")


OPTIONS = {
    "greedy": {"temperature": 0.0},
    "typical-p": {"typical_p": 0.9},
    "top-n-sigma": {"top_n_sigma": 1.0},
    "min-p": {"min_p": 0.05},
    "XTC": {"xtc_probability": 0.5},
    "DRY": {"dry_multiplier": 0.8},
    "mirostat v2": {"mirostat_tau": 5.0},
    "dynamic temperature": {"dynatemp_range": 0.5},
    "penalties": {"repetition_penalty": 1.1, "frequency_penalty": 0.1, "presence_penalty": 0.1},
    "adaptive S1": {"adaptive": "S1"},
    "adaptive S3": {"adaptive": "S3"},
    "adaptive own": {"adaptive": "own"},
    "100 candidates": {"n_candidates": 100},
}
"""What is off by default and can be switched on: knobs."""


def metrics(settings: Settings) -> Iterator[Figure]:
    """What each option adds to a step: one text, whose steps take turns with the default knobs and every option."""
    loaded = loaded_model(settings)
    rounds = 4 if settings.quick else 24
    base = Knobs(temperature=0.7)
    breakers = loaded.codec.containing(base.dry_breakers)
    turns = [Controls(base, {})] + [
        Controls(replace_knobs(base, **option), {}, breakers=breakers) for option in OPTIONS.values()
    ]
    for length in (32, 1024):
        context = Context(loaded, prompt_ids(loaded, length), len(turns) * (rounds + 1))
        steps = _taking_turns(loaded, context, turns)[len(turns) :]  # the first turn of each warms it up
        costs = [1000 * step.sample_seconds for step in steps]
        whole = statistics.median(1000 * (step.forward_seconds + step.sample_seconds) for step in steps)
        plain = costs[:: len(turns)]
        share = f"{100 * statistics.median(plain) / whole:.1f} % of a step of {whole:.1f} ms"
        yield Figure(f"after the forward pass, default, prompt {length}", statistics.median(plain), "ms", "", share)
        for nth, name in enumerate(OPTIONS, 1):
            value = statistics.median(b - a for a, b in zip(plain, costs[nth :: len(turns)], strict=True))
            yield Figure(f"  {name} adds", value, "ms", "", f"{100 * value / whole:+.1f} % of a step")
    yield from _prompt_scores(loaded, settings)


def _taking_turns(loaded: Loaded, context: Context, turns: list[Controls]) -> list[Step]:
    """A text whose nth step is written under the nth of `turns`, and so on round and round."""

    def controls() -> Controls:
        return turns[len(context.written) % len(turns)]

    with instruments(loaded) as probes:
        return [event for event in decode(loaded, probes, context, controls) if isinstance(event, Step)]


def _prompt_scores(loaded: Loaded, settings: Settings) -> Iterator[Figure]:
    """Seconds to the first token of a long prompt, with and without its scores."""
    ids = prompt_ids(loaded, 1024)

    def first_token(scored: bool) -> float:
        with instruments(loaded) as probes:
            watch = time.perf_counter()
            list(decode(loaded, probes, Context(loaded, ids, 1), lambda: Controls(Knobs(), {}), 1, scored))
            return time.perf_counter() - watch

    first_token(True)
    calls = {"scored": partial(first_token, True), "not scored": partial(first_token, False)}
    times = in_turns(calls, settings.rounds)
    detail = f"scored {spread(times['scored'], 's')}, not scored {spread(times['not scored'], 's')}"
    value = ratio(times["scored"], times["not scored"])
    yield Figure("first token of a prompt of 1024, scored / not scored", value, "x", "", detail)


def prefill(settings: Settings) -> Iterator[Figure]:
    """Peak memory over the loaded model while a prompt is read, each contestant in a process of its own."""
    results = in_turns(
        {name: partial(_in_a_child, name, settings) for name in ("ours", "plain")},
        1 if settings.quick else settings.rounds,
    )
    detail = f"ours {spread(results['ours'], 'MB')}, plain {spread(results['plain'], 'MB')}"
    name = f"peak memory of prefill, {PREFILL_TOKENS} tokens, ours / plain sdpa"
    yield Figure(name, ratio(results["ours"], results["plain"]), "x", "<= 1.10", detail)


def _in_a_child(contestant: str, settings: Settings) -> float:
    command = [sys.executable, __file__, contestant, settings.model, settings.device]
    # glibc gives a freed megabyte back at once, so that the peak is what was in use and not what malloc had kept:
    # without this, the same forward pass peaks anywhere between 290 and 540 MB.
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**20)}
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=env)
    return float(json.loads(done.stdout.splitlines()[-1]))


def prefill_peak(contestant: str, settings: Settings) -> float:
    """MB above what the loaded model takes, reading a prompt and taking one token from it."""
    loaded = loaded_model(settings)
    ids = prompt_ids(loaded, PREFILL_TOKENS)
    read = {"ours": ours, "plain": _plain}[contestant]
    read(loaded, ids[:64], 1)  # so that every weight has been touched
    if loaded.model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        read(loaded, ids, 1)
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = _resident("VmRSS")
    read(loaded, ids, 1)
    return _resident("VmHWM") - before


@torch.inference_mode()
def _plain(loaded: Loaded, ids: list[int], new_tokens: int) -> None:
    on_device = torch.tensor([ids], device=loaded.model.device)
    loaded.model(on_device, use_cache=True, logits_to_keep=1).logits.argmax().item()


def _resident(field: str) -> float:
    """MB, of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1e3


if __name__ == "__main__":
    which, model, device = sys.argv[1:]
    print(json.dumps(prefill_peak(which, Settings(False, model, device, 1))))
