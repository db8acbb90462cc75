"""What the plugin vllm-lens adds to a fake vLLM: hooks that come with a request, and what they told."""

from __future__ import annotations

import base64
import io
import json
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fake_model import VOCABULARY

Json = dict[str, Any]
OTHERS = {"cmpl-other-0-aa": {"0": {"rows": [1.0], "kept": {"__type__": "cloudpickle", "data": "gASVAAAA"}}}}
"""What a hook of somebody else told."""


class Plan(pickle.Unpickler):
    """Takes the plan out of a hook that was sent, and runs nothing."""

    def find_class(self, module: str, name: str) -> Any:
        assert (module, name) == ("builtins", "eval")
        return lambda expression, names: names["plan"]


@dataclass
class FakeLens:
    """The plugin over a model of this shape. Its numbers are made of position and layer, so that one that is told of
    another position shows."""

    n_layers: int = 4
    n_heads: int = 2
    n_kv_heads: int = 1
    d_model: int = 8
    described: Json = field(default_factory=dict)
    """What it says of the model beside or in place of that."""
    has_heads: bool = True
    behind: int = 0
    """Positions by which what can be collected is late."""
    spoil: Callable[[list[Any]], object] = lambda row: row
    """What becomes of each row."""
    error: str = ""
    """What went wrong in the hook."""
    reply: Any = None
    """Everything that is collected, whatever was told."""
    refuses: bool = False
    """Nothing can be collected any more."""
    steers: bool = True
    results: Json = field(default_factory=lambda: dict(OTHERS))
    asked: list[list[Json]] = field(default_factory=list)
    """The plans that came, a request each."""

    def refusal(self, body: Json) -> str:
        return "" if self.has_heads or "output_qk" not in xargs(body) else "output_qk is not supported for MLA models"

    def answer(self, body: Json) -> Json:
        """What stands beside the choices of an answer that is not streamed."""
        plans = self.plans(body)
        if plans and "remove" in plans[0]:
            self.results = {name: one for name, one in self.results.items() if not is_of(one, plans[0]["remove"])}
        if not plans or "describe" not in plans[0]:
            return {}
        about = {
            "n_layers": self.n_layers, "n_heads": self.n_heads, "n_kv_heads": self.n_kv_heads,
            "d_model": self.d_model, "vocab": len(VOCABULARY), "dtype": "float32", "norm": "model.norm",
        }  # fmt: skip
        return {"hook_results": {"0": {"model": about | self.described}}}

    def plans(self, body: Json) -> list[Json]:
        hooks = json.loads(xargs(body).get("apply_hooks", "[]"))
        found = [Plan(io.BytesIO(base64.b64decode(one["fn"]["cloudpickle"]))).load() for one in hooks]
        if found:
            self.asked.append(found)
        return found

    def collected(self) -> Any:
        return {"results": self.results} if self.reply is None else self.reply

    def told(self, plan: Json, read: list[int]) -> None:
        """read: the tokens of a text so far that were read, the prompt among them."""
        first, n = plan["n_context"] - 1, len(read) - self.behind
        rows = [self.spoil(self.row(plan, at, read[at])) for at in range(first, n)]
        saved = {"stream": plan["stream"], "rank 0": rows[-plan["n_kept"] :]}
        self.results[f"cmpl-{plan['stream'][:8]}-0-ff"] = {
            "tui-entropy": saved | ({"error": self.error} if self.error else {})
        }

    def row(self, plan: Json, position: int, token_id: int) -> list[Any]:
        values = numbers(self, plan, position, token_id)
        return [position, base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()]


def xargs(body: Json) -> Json:
    return body.get("vllm_xargs") or {}


def is_of(contexts: Json, streams: list[str]) -> bool:
    return contexts.get("tui-entropy", {}).get("stream") in streams


def norm(position: int, block: int) -> float:
    return 100.0 * position + block


def head_entropy(position: int, block: int, head: int) -> float:
    return position + block / 16 + head / 256


def numbers(lens: FakeLens, plan: Json, position: int, token_id: int) -> list[float]:
    values = [float(token_id), float(n_pushed(plan, position) if lens.steers else 0)]
    for block in range(1, lens.n_layers + 1):
        values += [-1.0, 2.0, norm(position, block)]
    for block in plan["attention"]:
        values += [head_entropy(position, block, head) for head in range(lens.n_heads)]
        values += [0.5] * lens.n_heads + [0.25, 0.125, 3.0, position + 1.0]
    if plan["lens"] and (position + 1 - plan["n_prompt"]) % plan["lens_steps"] == 0:
        values += [float(one) for one in range(256, 256 + plan["n_ranked"])]
        for layer in plan["lens"]:
            values += [float(256 + (position + layer) % 20), 0.5, float(layer), 1.0]
            values += [float(1 + layer + place) for place in range(plan["n_ranked"])]
    return values


def n_pushed(plan: Json, position: int) -> int:
    blocks = set()
    for begin, end, acting in plan["segments"]:
        if begin <= position and (end is None or position < end):
            for vector, _, low, high in acting:
                blocks |= {int(block) for block in plan["vectors"][vector] if low <= int(block) <= high}
    return len(blocks)
