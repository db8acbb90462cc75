"""Proof, on this very model and machine, of the numbers that are shown: each got in two ways and compared."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial

import torch
from msgspec.structs import replace
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel
from transformers.generation.logits_process import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tui_entropy.engine.anatomy import cache_argument, new_cache
from tui_entropy.engine.attention import attention_probe
from tui_entropy.engine.cache import RoomyCache
from tui_entropy.engine.context import Context
from tui_entropy.engine.costs import costs
from tui_entropy.engine.decode import Controls, decode, instruments
from tui_entropy.engine.forward import forward
from tui_entropy.engine.lens import unembed
from tui_entropy.engine.loading import Loaded, free_bytes
from tui_entropy.engine.metrics import log_probs, surprisal_moments
from tui_entropy.engine.prompt_scores import final_residual
from tui_entropy.engine.sampling import Past, apply, draw
from tui_entropy.engine.session import Session
from tui_entropy.engine.travel import Travel
from tui_entropy.engine.trust import NO_ATTENTION
from tui_entropy.engine.vectors import ControlVector, pushes, setting
from tui_entropy.records import AskAttention, Event, Knobs, Progress, Started, Step, Write
from tui_entropy.report import IN_DTYPE, Check, Report, machine

PROMPT = (
    "The keeper of the lighthouse climbed 217 steps every evening. In 1903 a letter came: «Look north», it said, "
    "and nothing else."
)
N_PROMPT = 24
"""Tokens of it that are read."""
N_SINGLE = 6
"""How many tokens are written, or read one at a time, where a few will do."""
ROUNDINGS = {torch.float32: 128, torch.bfloat16: 8, torch.float16: 8}
"""Roundings of its dtype that a number may be off by. In float32 sums of thousands of terms are rounded at every
term; half types are summed in float32 and rounded once per operator."""
STRENGTH = 0.5
STATES_BYTES = 1 << 30
"""Of layers that cannot be shortened, for going back to."""


def allowed(dtype: torch.dtype, size: float | Tensor) -> float:
    """The largest difference that rounding explains between two ways to numbers as large as `size`."""
    return float(size) * ROUNDINGS[dtype] * torch.finfo(dtype).eps


def worst(found: Tensor, wanted: Tensor) -> float:
    """Largest difference; NaN where there is one in either."""
    return float((found.cpu().double() - wanted.cpu().double()).abs().max())


def doctor(loaded: Loaded, tell: Callable[[Progress], None]) -> Report:
    """Make every check and take every cost. The model is left as it was found."""
    ids = torch.tensor(loaded.codec.encode(PROMPT, None, chat=False)[:N_PROMPT], device=loaded.model.device)
    before = condition(loaded.model)
    checks: list[Check] = []
    with torch.inference_mode():
        for examined in CHECKS:
            tell(Progress(f"checking {examined.__name__.replace('_', ' ')}"))
            checks += examined(loaded, ids)
        tell(Progress("timing the views"))
        prices = costs(loaded, ids, write(loaded)[1][-1])
    checks.append(left_as_found(before, condition(loaded.model)))
    card = loaded.card
    return Report(
        model=card.name,
        revision=card.revision,
        device=card.device,
        dtype=card.dtype,
        machine=machine(),
        versions=card.versions,
        at=datetime.now().isoformat(" ", "minutes"),
        n_tokens=len(ids),
        checks=tuple(checks),
        costs=prices,
    )


def read(model: PreTrainedModel, ids: Tensor, cache: Cache | None = None) -> Tensor:
    """(n,) ids -> (n, vocab) float32 logits, as the model alone gives them."""
    keeping = {cache_argument(model): cache}
    logits: Tensor = model(input_ids=ids[None], **keeping, use_cache=cache is not None).logits[0]
    return logits.float()


def same_again(loaded: Loaded, ids: Tensor, size: float | Tensor) -> float:
    """The bound for what should be equal: 0, unless this model does not repeat itself to the bit.

    Some kernels of accelerators add in any order; then it is what rounding explains.
    """
    repeats = torch.equal(read(loaded.model, ids), read(loaded.model, ids))
    return 0.0 if repeats else allowed(loaded.model.dtype, size)


# --- Logits --------------------------------------------------------------------------------------------------------


def last_lens_row(loaded: Loaded, ids: Tensor) -> Iterator[Check]:
    """The residual stream after the last block is what the logits are made of."""
    with final_residual(loaded.anatomy) as held:
        logits = read(loaded.model, ids)
    lens = unembed(loaded.model, loaded.anatomy, held.residual)
    compared = "unembedded output of the last block against the model's logits"
    bound = allowed(loaded.model.dtype, logits.abs().max())
    yield Check("last lens row", "residual", compared, "logits", worst(lens, logits), bound)


def decode_equals_prefill(loaded: Loaded, ids: Tensor) -> Iterator[Check]:
    wanted = read(loaded.model, ids)
    cache = new_cache(loaded.model, loaded.anatomy)
    with instruments(loaded):
        found = torch.cat([read(loaded.model, one, cache) for one in torch.split(ids, 1)])
    compared = "token by token, watched, against one pass, not watched"
    bound = allowed(loaded.model.dtype, wanted.abs().max())
    yield Check("decode equals prefill", "logits", compared, "logits", worst(found, wanted), bound)


def revisited_step(loaded: Loaded, ids: Tensor) -> Iterator[Check]:
    """Each of the last tokens gone back to as a person would, from the newest: by cropping, or from a state."""
    with instruments(loaded, keep=0) as probes:
        context = Context(loaded, ids[:-N_SINGLE].tolist(), N_SINGLE)
        context.forced = ids[-N_SINGLE:].tolist()
        travel, first, positions = Travel(loaded, probes, bound=STATES_BYTES), [], []
        travel.seat(context)
        for event in decode(loaded, probes, context, lambda: Controls(Knobs(), {})):
            travel.checkpoint()
            if isinstance(event, Step) and context.logits is not None:
                first.append(context.logits)
                positions.append(event.position - 1)
        again = [travel.revisit(context, position).logits for position in positions]
    before, after = (torch.stack([row for row in rows if row is not None]) for rows in (first, again))
    bound = same_again(loaded, ids, before.abs().max())
    compared = f"gone back to {travel.rewinds.removesuffix(', exact')}, against before"
    yield Check("revisited step", "logits", compared, "logits", worst(after, before), bound)


def precision(loaded: Loaded, ids: Tensor) -> Iterator[Check]:
    """What float32 does to the entropy of given logits, and what a smaller dtype does to the whole model's."""
    logits = read(loaded.model, ids)
    size = math.log(logits.shape[-1])
    entropy, _ = surprisal_moments(log_probs(logits))
    compared = "float32 against float64, of the same logits"
    bound = allowed(torch.float32, size)
    yield Check("entropy formula", "logits", compared, "nats", worst(entropy, entropy64(logits)), bound)
    dtype = loaded.model.dtype
    if dtype is torch.float32:
        return
    check = partial(Check, IN_DTYPE, "logits", f"{loaded.card.dtype} against a float32 model", "nats")
    n_bytes = 4 * sum(parameter.numel() for parameter in loaded.model.parameters())
    if getattr(loaded.model.config, "quantization_config", None) is not None:
        yield check(skipped="the weights are quantised")
    elif n_bytes > free_bytes(loaded.model.device) / 2:
        yield check(skipped=f"a float32 copy takes {n_bytes / 2**30:.1f} GiB, more than half of what is free")
    else:
        wide: PreTrainedModel = copy.deepcopy(loaded.model).float()  # type: ignore[no-untyped-call]
        exact = entropy64(read(wide, ids))
        yield check(worst(entropy, exact), allowed(dtype, size))


def entropy64(logits: Tensor) -> Tensor:
    """(..., vocab) -> (...,) nats in float64, and by another formula than the metric's."""
    entropies: Tensor = torch.special.entr(logits.cpu().double().softmax(-1)).sum(-1)
    return entropies


# --- Attention -----------------------------------------------------------------------------------------------------


def attention(loaded: Loaded, ids: Tensor) -> Iterator[Check]:
    """Of every block, head and position, where most of the prompt is read at once and the last tokens one by one."""
    sums = partial(Check, "attention row sums", "attention", "each row against one, or one minus its sink", "share")
    rows = partial(Check, "attention rows", "attention", "weights against the model's own eager ones", "share")
    heads = partial(Check, "head entropies", "heads", "the probe against eager rows in float64", "nats")
    spans = partial(Check, "head measures", "heads", "varentropy, spread and disagreement against the same", "nats²")
    n, dtype = len(ids), loaded.model.dtype
    maps = eager_maps(loaded, ids)
    if isinstance(maps, str):
        yield from (check(skipped=maps) for check in (sums, rows, heads, spans))
        return
    entropies, measures, weights, eagers, totals = [], [], [], [], []
    with attention_probe(loaded.model, loaded.anatomy, keep=n) as probe:
        cache = new_cache(loaded.model, loaded.anatomy)
        for stretch in torch.split(ids, [n - N_SINGLE] + [1] * N_SINGLE):
            read(loaded.model, stretch, cache)
            newest = torch.stack([of_block[:, probe.held.newest] for of_block in maps.values()])
            entropy, others = measures64(newest / newest.sum(-1, keepdim=True))
            found = probe.measures()
            entropies.append((found.entropy[list(maps)], entropy))
            measures.append((torch.cat([found.varentropy, found.layers[:, :2]], 1)[list(maps)], others))
        sinks = {layer.index for layer in probe.layers if layer.sinks is not None}
        for index, head in itertools.product(maps, range(loaded.anatomy.n_heads)):
            answer = probe.rows(cache, AskAttention(index + 1, head + 1, n - 1, n, 0, n), run=0)
            if answer.unavailable:
                break
            weights.append(torch.tensor(answer.weights.numpy()).nan_to_num(0))  # NaN where a key is not visible
            eagers.append(maps[index][head, list(answer.queries)])
            totals.append(eagers[-1].sum(-1) if index in sinks else torch.ones(len(answer.queries)))
    yield heads(worst(*map(torch.stack, zip(*entropies, strict=True))), allowed(dtype, math.log(n)))
    yield spans(worst(*map(torch.stack, zip(*measures, strict=True))), allowed(dtype, math.log(n) ** 2))
    if answer.unavailable:
        yield from (check(skipped=answer.unavailable) for check in (sums, rows))
        return
    yield sums(worst(torch.cat(weights).sum(-1), torch.cat(totals)), allowed(dtype if sinks else torch.float32, 1))
    yield rows(worst(torch.cat(weights), torch.cat(eagers)), allowed(dtype, 1))


def measures64(weights: Tensor) -> tuple[Tensor, Tensor]:
    """(blocks, n_heads, keys) float64 rows -> (blocks, n_heads) entropy in nats, and (blocks, n_heads + 2): the
    varentropy of each head, then spread and disagreement of the block."""
    entropy = torch.special.entr(weights).sum(-1)
    second = (weights * torch.where(weights > 0, weights, 1).log().square()).sum(-1)
    apart = (weights - weights.mean(1, keepdim=True)).abs().sum(-1).mean(1) / 2
    spread = entropy.square().mean(1) - entropy.mean(1).square()
    return entropy, torch.cat([second - entropy.square(), torch.stack([spread, apart], -1)], 1)


def eager_maps(loaded: Loaded, ids: Tensor) -> dict[int, Tensor] | str:
    """Index of each block with rows -> (n_heads, n, n) float64 by the library's plain formula; or why there are none.

    Read off the attention modules themselves: to ask for output_attentions would leave the library's hooks behind.
    """
    modules = {index: module for index, module in enumerate(loaded.anatomy.attention_modules) if module is not None}
    if not modules:
        return NO_ATTENTION
    told: dict[nn.Module, Tensor | None] = {}

    def keep(module: nn.Module, inputs: object, output: tuple[Tensor, Tensor | None]) -> None:
        told[module] = output[1]

    with eager(loaded.model.get_decoder()), ExitStack() as hooks:  # type: ignore[no-untyped-call]
        for module in modules.values():
            hooks.callback(module.register_forward_hook(keep).remove)
        read(loaded.model, ids)
    maps = {index: weights[0].cpu().double() for index, m in modules.items() if (weights := told.get(m)) is not None}
    return maps if len(maps) == len(modules) else "the model's eager attention tells no weights"


@contextmanager
def eager(decoder: PreTrainedModel) -> Iterator[None]:
    """Eager attention for as long as the `with` lasts."""
    before = str(decoder.config._attn_implementation)
    decoder.set_attn_implementation("eager")
    try:
        yield
    finally:
        decoder.set_attn_implementation(before)


# --- Steering ------------------------------------------------------------------------------------------------------


def steering(loaded: Loaded, ids: Tensor) -> Iterator[Check]:
    """A push after the middle block shows where it should, and nowhere once it is taken away."""
    block = (loaded.anatomy.n_layers + 1) // 2
    with instruments(loaded, keep=0) as probes:

        def passed(push: Mapping[int, Tensor]) -> tuple[Tensor, Tensor]:
            """(n, vocab) logits, and (n_layers, d_model) residual stream of the newest token."""
            probes.steering.set(push)
            logits = read(loaded.model, ids, new_cache(loaded.model, loaded.anatomy))
            return logits, torch.stack([v[0, 0] for v in probes.residual.vectors if v is not None])

        logits, plain = passed({})
        # As long as what it is added to, so that it is felt in every later block.
        length = plain[block - 1].float().square().mean().sqrt().cpu()
        direction = torch.randn(plain.shape[-1], generator=torch.Generator().manual_seed(0)) * length
        vector = ControlVector("doctor", {block: direction.numpy()})
        on = replace(setting(vector, ""), on=True, strength=STRENGTH)
        _, steered = passed(pushes([on], {vector.name: vector}))
        after, _ = passed({})
    pushed = plain[block - 1] + (STRENGTH * direction).to(plain)
    moved = (steered[block:] != plain[block:]).any(-1)
    bound = same_again(loaded, ids, plain[:block].abs().max())
    check = partial(Check, group="residual", unit="residual", bound=bound)
    yield check(
        "steered block",
        compared="output against plain + strength x direction",
        worst=worst(steered[block - 1], pushed),
    )
    if block > 1:
        yield check(
            "blocks below", compared="steered against plain", worst=worst(steered[: block - 1], plain[: block - 1])
        )
    if block < loaded.anatomy.n_layers:
        unmoved = float((~moved).sum())
        yield Check("blocks above", "residual", "those that steering left unchanged, of all", "blocks", unmoved, 0.0)
    bound = same_again(loaded, ids, logits.abs().max())
    yield Check("steering taken away", "logits", "logits against before", "logits", worst(after, logits), bound)


def rows(loaded: Loaded, ids: Tensor) -> Iterator[Check]:
    """Two texts in one pass are each what they are alone, and what is pushed in one stays in it."""
    alone = partial(Check, "row of two", "logits", "each row of one pass against a pass of its own", "logits")
    apart = partial(Check, "steered row", "logits", "the row beside one that is steered against before", "logits")
    if not loaded.anatomy.croppable:
        kinds = ", ".join(sorted(set(loaded.anatomy.layer_kinds)))
        yield from (check(skipped=f"a cache of {kinds} layers is not shared") for check in (alone, apart))
        return
    texts = ids, ids.flip(0)
    pushed = torch.randn(loaded.anatomy.d_model, generator=torch.Generator().manual_seed(0))
    push = {(loaded.anatomy.n_layers + 1) // 2: pushed}
    with instruments(loaded, keep=0) as probes:

        def written(*under: Mapping[int, Tensor], which: Sequence[Tensor] = texts) -> Tensor:
            """(rows, N_SINGLE, vocab) logits of the last tokens, read one by one."""
            probes.steering.set(*under)
            cache = new_cache(loaded.model, loaded.anatomy)
            beside = torch.stack(list(which))
            forward(loaded, cache, beside[:, :-N_SINGLE])
            return torch.stack([forward(loaded, cache, beside[:, [at]]) for at in range(-N_SINGLE, 0)], 1)

        both = written({})
        each = torch.cat([written({}, which=[text]) for text in texts])
        steered = written({}, push)
        single = written(push, which=texts[1:])
    bound = allowed(loaded.model.dtype, both.abs().max())
    yield alone(max(worst(both, each), worst(steered[1:], single)), bound)
    yield apart(worst(steered[0], both[0]), bound)  # experts are shared out among the tokens of a batch


def captured_step(loaded: Loaded, ids: Tensor) -> Iterator[Check]:
    """The step that a CUDA graph can hold says what the plain one says, whether there are graphs here or not."""
    compared = "the step that a CUDA graph can hold against the plain one"
    check = partial(Check, "captured step", "logits", compared, "logits")
    with instruments(loaded, keep=0, captured=True) as probes:
        if probes.captured is None:
            yield check(skipped=probes.plainly)
            return
        cache, singles = RoomyCache(), range(len(ids) - N_SINGLE, len(ids))
        forward(loaded, cache, ids[None, :-N_SINGLE])
        step, again = probes.captured.step, cache.first(singles[0])
        held = torch.cat([step.run(cache, ids[None, [at]], at, [{}]).logits.clone() for at in singles])
        plain = torch.cat([forward(loaded, again, ids[None, [at]]) for at in singles])  # fills the same columns
    yield check(worst(held, plain), allowed(loaded.model.dtype, plain.abs().max()))


# --- What is written -----------------------------------------------------------------------------------------------


def written_steps(loaded: Loaded, ids: Tensor) -> Iterator[Check]:
    """The loop itself: what its steps say, and that the same seed writes the same text."""
    prompt, steps = write(loaded)
    _, again = write(loaded)
    text = [step.token_id for step in steps]
    logits = read(loaded.model, torch.tensor(prompt + text, device=ids.device))[len(prompt) - 1 : -1].cpu()
    logp = logits.double().log_softmax(-1)
    wanted = torch.stack([entropy64(logits), -logp.gather(-1, torch.tensor(text)[:, None])[:, 0]])
    found = torch.tensor([[step.entropy for step in steps], [step.surprisal for step in steps]])
    bound = allowed(loaded.model.dtype, math.log(logits.shape[-1]))
    compared = "entropy and surprisal against float64 of one plain pass"
    yield Check("written steps", "logits", compared, "nats", worst(found, wanted), bound)
    drawn = [[int(draw(row, seed, at)) for at, row in enumerate(logits) for seed in (1, 2)] for _ in range(2)]
    others = [step.token_id for step in again]
    differing = sum(a != b for a, b in itertools.zip_longest(drawn[0] + text, drawn[1] + others))
    knobs = Knobs(temperature=0.8, top_k=40, top_p=0.9)
    processors = LogitsProcessorList(
        [TemperatureLogitsWarper(knobs.temperature), TopKLogitsWarper(knobs.top_k), TopPLogitsWarper(knobs.top_p)]
    )
    nobody = torch.empty(0, dtype=torch.long)
    finals = torch.stack([apply(knobs, row, Past(nobody, nobody, 0)).final_logp.exp() for row in logits])
    compared = "final distribution against transformers' own processors"
    theirs = processors(nobody[None], logits.clone()).softmax(-1)  # type: ignore[arg-type]
    yield Check("sampling chain", "sampling", compared, "share", worst(finals, theirs), allowed(torch.float32, 1))
    compared = "draws and text of the same seed against the first time"
    yield Check("repeated draws", "sampling", compared, "tokens", float(differing), 0.0)


def write(loaded: Loaded) -> tuple[list[int], list[Step]]:
    """Ids of the prompt, and what the loop writes after it."""
    events: list[Event] = []
    with instruments(loaded, keep=0) as probes:
        session = Session(loaded, probes, events.append)
        session.begin(Write(PROMPT, None, False, N_SINGLE, Knobs()))
        while session.active:
            session.advance()
    prompt = [piece.token_id for event in events if isinstance(event, Started) for piece in event.pieces]
    return prompt, [event for event in events if isinstance(event, Step)]


# --- The patient ---------------------------------------------------------------------------------------------------


def condition(model: PreTrainedModel) -> dict[str, str]:
    """What a probe could leave behind: the attention in use, hooks, training mode."""
    decoder: PreTrainedModel = model.get_decoder()  # type: ignore[no-untyped-call]
    modules = list(model.modules())
    hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)
    return {
        "attention": str(decoder.config._attn_implementation),
        "hooks": str(hooks),
        "training": str([module.training for module in modules]),
    }


def left_as_found(before: Mapping[str, str], after: Mapping[str, str]) -> Check:
    changed = float(sum(before[part] != after[part] for part in before))
    return Check(
        "left as found", "logits", f"{', '.join(before)} after all this against before", "parts", changed, 0.0
    )


CHECKS: tuple[Callable[[Loaded, Tensor], Iterator[Check]], ...] = (
    last_lens_row, decode_equals_prefill, revisited_step, precision, attention, steering, rows, captured_step,
    written_steps,
)  # fmt: skip
