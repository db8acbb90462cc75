"""What runs inside a vLLM server: a hook of vllm-lens for one request, which steers it and measures each pass.

The text of this file is sent with a request and is run there, with the libraries that are there; it is never imported
here. So it needs nothing but Python's own library and torch, and knows of the plugin (1.3):

- a hook is called behind each block with the rows of one request. The caller's frame says which request that is;
- `extension._captured_qk` has queries and keys of this pass, where the request asks for them (`output_qk`);
- `extension._persistent_hook_contexts` is what `/v1/hooks/collect` answers with. What is put there under a request
  can be read while that is written, and nothing has to be registered that would act on the requests of others.

Nothing may be raised: it would take the steering of all requests in the batch with it. What goes wrong is told in
`error`, and the client says so.
"""

from __future__ import annotations

import base64
import math
import sys
import time
from types import SimpleNamespace
from typing import Any

import torch

PUBLISHED = "tui-entropy"
"""Under which the numbers of a request are found; the plugin's own contexts have numbers."""
LEFT_AFTER_S = 60.0
"""Numbers that nobody added to for so long are of a request that ended."""
LEAST = -1e30
"""A ln p of less is taken for it: nothing times infinity is no number."""
FINAL_NORMS = ("norm", "ln_f", "norm_f", "final_layernorm", "final_layer_norm")
"""What models of vLLM call the norm before their head."""


class RequestHook:
    """Steers and measures one request. `plan` is made by `hook_plan.py` of the client."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.published: Any = None
        self.rows: dict[int, Any] = {}
        """Layer -> (1, d_model) of the newest position in this pass."""
        self.heads: dict[int, Any] = {}
        """Block -> numbers of its heads in this pass."""
        self.keys: dict[int, Any] = {}
        """Block -> (capacity, n_kv_heads, d_head), of all positions so far."""
        self.n_keys: dict[int, int] = {}
        self.directions: list[dict[int, Any]] | None = None
        """Of each vector: block -> (d_model,) float32."""
        self.pushes: dict[tuple[int, int], Any] = {}
        """Number of a segment and block -> (d_model,), None for nothing."""
        self.n_pushed = 0
        """Blocks that something was added to at the newest position of this pass."""

    def __call__(self, ctx: Any, hidden: Any) -> Any:
        caller = sys._getframe(1).f_locals
        try:
            return self.passed(caller["extension"], caller["req_id"], int(caller["end"]), ctx, hidden)
        except Exception as wrong:
            self.tell_error(caller, f"{type(wrong).__name__}: {wrong}")
            return None

    def passed(self, extension: Any, request: str, end: int, ctx: Any, hidden: Any) -> Any:
        """A block has run. hidden: (n, d_model) of this request, what it put out, or what the first block is given
        where `is_before`. end: of its rows among those of all requests."""
        embeddings = extension.__dict__.setdefault("_tui_entropy_embeddings", {})
        if self.plan["is_before"]:
            embeddings[request] = hidden[-1:].clone()
            return None
        runner = extension.model_runner
        first = int(runner.input_batch.num_computed_tokens_cpu[runner.input_batch.req_id_to_index[request]])
        last, block = first + len(hidden) - 1, int(ctx.layer_idx) + 1
        if block == 1:
            self.rows, self.heads, self.n_pushed = {0: embeddings.pop(request, None)}, {}, 0
        steered = self.steered(block, hidden, first)
        self.rows[block] = (hidden if steered is None else steered)[-1:].clone()
        self.take_heads(extension, request, block, first)
        if block == self.plan["n_layers"] and last + 1 >= self.plan["n_context"]:
            token = runner.input_ids.gpu[end - 1 : end]
            self.publish(extension, request, last, self.measured(extension, ctx.model, last, token))
        return steered

    # --- Steering ----------------------------------------------------------------------------------------------

    def steered(self, block: int, hidden: Any, first: int) -> Any:
        """hidden with what is added at each of its positions, the first of which is `first`; None for nothing."""
        if self.directions is None:
            self.directions = [
                {int(at): torch.frombuffer(bytearray(held), dtype=torch.float32) for at, held in each.items()}
                for each in self.plan["vectors"]
            ]
        made, beyond, was_pushed = None, first + len(hidden), False
        for n, (begin, end, acting) in enumerate(self.plan["segments"]):
            low, high = max(begin, first), min(beyond if end is None else end, beyond)
            if low >= high:
                continue
            if (n, block) not in self.pushes:
                self.pushes[n, block] = self.push(block, acting, hidden)
            push = self.pushes[n, block]
            if push is not None:
                made = hidden.clone() if made is None else made
                made[low - first : high - first] += push
                was_pushed = high == beyond
        self.n_pushed += was_pushed
        return made

    def push(self, block: int, acting: list[list[Any]], hidden: Any) -> Any:
        """(d_model,) as `hidden` is: the sum of the vectors that act here, summed as the engine of this program does;
        None for nothing. What is not finite would stay in the memory of the server, so it is not added."""
        total = None
        assert self.directions is not None
        for vector, strength, low, high in acting:
            direction = self.directions[vector].get(block)
            if direction is not None and low <= block <= high:
                part = direction * strength
                total = part if total is None else total + part
        if total is None:
            return None
        push = total.to(hidden.device, hidden.dtype)
        if push.shape != hidden.shape[-1:] or not bool(torch.isfinite(push).all()):
            raise ValueError(f"a vector of {tuple(push.shape)} that cannot be added at block {block}")
        return push

    # --- Measuring ---------------------------------------------------------------------------------------------

    def take_heads(self, extension: Any, request: str, block: int, first: int) -> None:
        """The newest query of this block against all keys so far. What the plugin captured is taken out, so that none
        of it is kept or sent."""
        captured = extension._captured_qk.get(request) or {}
        taken = captured.pop(block - 1, None)
        if request in extension._captured_qk and not captured:
            del extension._captured_qk[request]
        if taken is None or block not in self.plan["attention"]:
            return
        query, new = torch.cat(taken["q"])[-1].float(), torch.cat(taken["k"]).float()
        n, held = first + len(new), self.keys.get(block)
        if held is None or len(held) < n:
            grown = new.new_empty((max(2 * n, 256), *new.shape[1:]))
            if held is not None:
                grown[: len(held)] = held
            held = self.keys[block] = grown
        if self.n_keys.get(block, 0) < first:
            return  # some of the text was not read in this request, so its keys are nowhere here
        held[first:n], self.n_keys[block] = new, n
        self.heads[block] = head_numbers(query, held[:n], extension._qk_layer_meta[block - 1])

    def measured(self, extension: Any, model: Any, last: int, token: Any) -> Any:
        """(numbers,) float32: the token that was read, blocks that were steered at it, then in the order of
        `hook_plan.Shape`. NaN is unknown, as what another rank knows."""
        plan = self.plan
        stream = torch.cat([self.rows[block] for block in range(1, plan["n_layers"] + 1)]).float()
        mean, norm = stream.mean(-1), torch.linalg.vector_norm(stream, dim=-1)
        std = torch.linalg.vector_norm(stream - mean.unsqueeze(-1), dim=-1) / math.sqrt(stream.shape[-1])
        parts = [token.float(), token.new_tensor([self.n_pushed]).float(), torch.stack([mean, std, norm], -1)]
        n_heads, rank = plan["n_heads"], getattr(extension, "_qk_tp_rank", 0)
        for block in plan["attention"]:
            found = self.heads.get(block)
            parts.append(padded(found, n_heads, rank) if found else torch.full((2 * n_heads + 4,), math.nan))
        if plan["lens"] and (last + 1 - plan["n_prompt"]) % plan["lens_steps"] == 0:
            parts.append(self.lens(model))
        return torch.cat([part.reshape(-1).to(stream.device, torch.float32) for part in parts])

    def lens(self, model: Any) -> Any:
        """The most probable tokens of the last layer, then of each layer the likeliest token, its probability,
        entropy, KL(last || this), and the rank of each of those tokens."""
        plan = self.plan
        vectors = torch.cat([self.rows[layer] for layer in plan["lens"]])
        logits = model.compute_logits(model.get_submodule(plan["norm"])(vectors))
        if logits is None:  # the ranks of a group but one
            return torch.full((plan["n_ranked"] + len(plan["lens"]) * (4 + plan["n_ranked"]),), math.nan)
        logits = logits.float()
        logp = logits.log_softmax(-1).clamp(min=LEAST)
        p = logp.exp()
        ranked = logits[-1].topk(plan["n_ranked"]).indices
        top = logits.argmax(-1)
        kl = ((p[-1] * logp[-1]).sum() - logp @ p[-1]).clamp(min=0)
        ranks = torch.stack([(logits > logits[:, one : one + 1]).sum(-1) + 1 for one in ranked.tolist()], -1)
        numbers = torch.stack([top.float(), p.gather(1, top[:, None])[:, 0], -(p * logp).sum(-1), kl], -1)
        return torch.cat([ranked.float(), torch.cat([numbers, ranks.float()], -1).reshape(-1)])

    # --- Telling -----------------------------------------------------------------------------------------------

    def publish(self, extension: Any, request: str, position: int, numbers: Any) -> None:
        held = self.published_at(extension, request)
        rows = held.saved.setdefault(f"rank {getattr(extension, 'rank', 0)}", [])
        rows.append([position, base64.b64encode(numbers.cpu().numpy().tobytes()).decode()])
        del rows[: -self.plan["n_kept"]]

    def published_at(self, extension: Any, request: str) -> Any:
        """What is collected of this request. Somebody may have cleared it meanwhile."""
        every = extension._persistent_hook_contexts
        if self.published is None:
            self.published = SimpleNamespace(saved={"stream": self.plan["stream"]})
            for other in list(every):
                left = every[other].get(PUBLISHED)
                if left is not None and time.monotonic() - left.at > LEFT_AFTER_S:
                    del every[other][PUBLISHED]
                if not every[other]:
                    del every[other]
        self.published.at = time.monotonic()
        every.setdefault(request, {})[PUBLISHED] = self.published
        return self.published

    def tell_error(self, caller: dict[str, Any], error: str) -> None:
        try:
            self.published_at(caller["extension"], caller["req_id"]).saved.setdefault("error", error[:300])
        except Exception:
            return


def head_numbers(query: Any, keys: Any, meta: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Of the newest query: (heads,) entropy and varentropy over its visible keys, and (4,) spread, disagreement,
    interaction strength and how many keys that are.

    query: (heads, d_head). keys: (n, kv heads, d_head). meta: what the plugin says of the kernel.
    """
    window, cap = meta["sliding_window"][0], meta["logits_soft_cap"]
    keys = keys[-(window + 1) :] if window >= 0 else keys
    grouped = query.view(keys.shape[1], -1, query.shape[-1])
    scores = torch.einsum("ghd,ngd->ghn", grouped, keys).reshape(len(query), -1) * meta["scale"]
    scores = torch.tanh(scores / cap) * cap if cap else scores
    if meta["alibi_slopes"]:
        away = torch.arange(1 - len(keys), 1, dtype=torch.float32)
        scores = scores + torch.tensor(meta["alibi_slopes"])[:, None] * away
    logp = scores.log_softmax(-1)
    p = logp.exp()
    entropy = -(p * logp).sum(-1)
    varentropy = (p * (logp + entropy[:, None]).square()).sum(-1)
    apart = (p - p.mean(0)).abs().sum() / (2 * len(p))
    return (
        entropy,
        varentropy,
        torch.stack([entropy.var(correction=0), apart, scores.abs().mean(), torch.tensor(float(len(keys)))]),
    )


def padded(found: tuple[Any, Any, Any], n_heads: int, rank: int) -> Any:
    """Heads of this rank among all of them. What is said of all together is unknown where some are elsewhere."""
    entropy, varentropy, whole = found
    every = torch.full((2, n_heads), math.nan)
    every[:, rank * len(entropy) : (rank + 1) * len(entropy)] = torch.stack([entropy, varentropy])
    if len(entropy) < n_heads:
        whole = torch.cat([torch.full((3,), math.nan), whole[3:]])
    return torch.cat([every.reshape(-1), whole])


class ModelDescription:
    """A hook that tells of the model once, behind its first block."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan

    def __call__(self, ctx: Any, hidden: Any) -> None:
        caller = sys._getframe(1).f_locals
        try:
            ctx.saved["model"] = described(caller["extension"], ctx.model)
            ctx.saved["request"] = str(caller["req_id"])
        except Exception as wrong:
            ctx.saved["error"] = f"{type(wrong).__name__}: {wrong}"[:300]


def described(extension: Any, model: Any) -> dict[str, Any]:
    config, parallel = extension.model_config, extension.parallel_config
    for needed in ("_persistent_hook_contexts", "_captured_qk"):
        getattr(extension, needed)
    return {
        "n_layers": int(config.get_total_num_hidden_layers()),
        "n_heads": int(config.get_num_attention_heads(parallel) * parallel.tensor_parallel_size),
        "n_kv_heads": int(config.get_total_num_kv_heads()),
        "d_model": int(config.get_hidden_size()),
        "vocab": int(config.get_vocab_size()),
        "dtype": str(config.dtype).removeprefix("torch."),
        "norm": final_norm(model),
    }


def final_norm(model: Any) -> str:
    """The name of the norm before the head; empty where none is called so."""
    names = [name for name, _ in model.named_modules() if name.rpartition(".")[2] in FINAL_NORMS]
    outer = [name for name in names if not any(part.isdigit() for part in name.split("."))]
    return min(outer, key=len, default="")


class Removal:
    """A hook that takes away what requests left to be collected."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.streams = plan["remove"]

    def __call__(self, ctx: Any, hidden: Any) -> None:
        caller = sys._getframe(1).f_locals
        try:
            every = caller["extension"]._persistent_hook_contexts
            for request in list(every):
                left = every[request].get(PUBLISHED)
                if left is not None and left.saved["stream"] in self.streams:
                    del every[request][PUBLISHED]
                if not every[request]:
                    del every[request]
        except Exception as wrong:
            ctx.saved["error"] = f"{type(wrong).__name__}: {wrong}"[:300]


def hook_of(plan: dict[str, Any]) -> Any:
    if "remove" in plan:
        return Removal(plan)
    return ModelDescription(plan) if "describe" in plan else RequestHook(plan)
