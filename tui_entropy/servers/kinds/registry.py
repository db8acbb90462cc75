"""Every kind of server, and how the one at an address is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tui_entropy.core.errors import UserError
from tui_entropy.records.model import ServerCard, ServerSpec
from tui_entropy.servers.http.client import HttpClient
from tui_entropy.servers.kinds.kind import Kind
from tui_entropy.servers.kinds.llamacpp import LlamaCpp
from tui_entropy.servers.kinds.sglang import Sglang
from tui_entropy.servers.kinds.vllm import Vllm

KINDS: tuple[type[Kind], ...] = (Vllm, LlamaCpp, Sglang, Kind)
"""In the order in which they are asked; the last one is every other."""


def identified(client: HttpClient, spec: ServerSpec) -> Kind:
    """The server as the kind that it is, or is said to be, with what it can do found out. Raises UserError."""
    models = client.get("/v1/models")
    if not isinstance(models, dict) or not isinstance(models.get("data"), list):
        raise UserError(f"{client.url}/v1/models lists no models: wanted the address of a model server")
    kinds = [one for one in KINDS if spec.kind in ("auto", one.name)]
    kind, title = next((one, title) for one in kinds if (title := _title(one, client, models, spec)))
    server = kind(client, spec, _chosen(models, spec.model, client.url))
    server.title = title
    server.learn()
    return server


def _title(kind: type[Kind], client: HttpClient, models: Mapping[str, Any], spec: ServerSpec) -> str:
    """One that it is said to be is believed."""
    return kind.recognise(client, models) or (kind.title if spec.kind == kind.name else "")


def _chosen(models: Mapping[str, Any], wanted: str, url: str) -> Mapping[str, Any]:
    listed = [one for one in models["data"] if isinstance(one, dict) and isinstance(one.get("id"), str)]
    if not wanted and listed:
        return listed[0]
    for one in listed:
        if wanted == one["id"] or wanted in (one.get("aliases") or ()):
            return one
    names = ", ".join(one["id"] for one in listed[:20]) or "none"
    raise UserError(f"{url} has no model {wanted or 'at all'}: --server-model takes one of its own: {names}")


def card_of(server: Kind) -> ServerCard:
    return ServerCard(
        kind=server.name,
        name=server.title,
        url=server.client.url,
        n_logprobs=server.n_logprobs,
        facts=tuple(server.facts()),
        ignored_knobs=server.ignored,
        spec=server.spec,
    )
