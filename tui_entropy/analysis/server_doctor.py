"""`doctor --server`: what a server's numbers are worth, and how far they are from those of a model that is here."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import msgspec

from tui_entropy.analysis.console_progress import Narrator
from tui_entropy.core.escape import visible
from tui_entropy.core.streams import put
from tui_entropy.records.events import Progress
from tui_entropy.records.model import ModelSpec, ServerSpec
from tui_entropy.servers.examination import FAILED, NOTED, PASSED, Answer, Examination, Finding, bands
from tui_entropy.servers.http.client import HttpClient
from tui_entropy.servers.kinds.registry import card_of, identified
from tui_entropy.servers.streams.band import Band

CLOSE = 0.03
"""Nats by which two float32 implementations of one model may differ (a half-precision KV cache among them)."""


def examine(spec: ServerSpec, against: ModelSpec | None, as_json: bool) -> int:
    """Print what is found. Returns the exit code of the program: 1 where a number cannot be believed. Raises
    UserError."""
    narrator = Narrator()
    client = HttpClient(spec.url, spec.key_env, spec.timeout)
    try:
        began = time.monotonic()
        narrator.progress(Progress(f"asking {client.url} what it is"))
        server = identified(client, spec)
        card, examination = card_of(server), Examination(server)
        if not as_json:
            _title(f"{card.name} at {card.url}, model {server.model}")
            for fact in card.facts:
                _row(fact.name, fact.value if fact.known else f"{fact.value} (not tried)")
            _title("its log-probabilities")
        found: list[Finding] = []

        def note(findings: Iterator[Finding]) -> None:
            for finding in findings:
                found.append(finding)
                if not as_json:
                    _row(finding.name, finding.sentence, finding.verdict)

        note(examination.findings(lambda stage: narrator.progress(Progress(stage))))
        seconds = time.monotonic() - began
        if against is not None:
            note(_against(against, examination, narrator))
        narrator.done(f"{examination.n_requests} requests for tokens, {seconds:.1f} s")
    finally:
        client.close()
    if as_json:
        report = {"server": card, "findings": found, "requests": examination.n_requests, "seconds": seconds}
        put(msgspec.json.encode(report) + b"\n")
    return 1 if any(finding.verdict == FAILED for finding in found) else 0


def _title(text: str) -> None:
    put(f"{visible(text, in_table=True)}\n".encode())


def _row(name: str, text: str, mark: str = "") -> None:
    put(f"  {mark:{10 if mark else 0}}{visible(name, in_table=True):24} {visible(text, in_table=True)}\n".encode())


def _against(spec: ModelSpec, examination: Examination, narrator: Narrator) -> Iterator[Finding]:
    """The same tokens under the model that is here: its logits in one pass over all of them."""
    answer, ids = examination.greedy, [token.token_id for token in examination.greedy.tokens]
    if None in ids or not examination.prompt_ids:
        yield Finding("against", NOTED, "the server names its tokens without ids, so that they cannot be compared")
        return
    import torch

    from tui_entropy.engine.loading.loader import load

    loaded = load(spec, narrator.progress)
    n_prompt = len(examination.prompt_ids)
    text = torch.tensor([[*examination.prompt_ids, *ids]], device=loaded.model.device)
    if int(text.max()) >= loaded.card.vocab:
        yield Finding("against", FAILED, f"{spec.name} has {loaded.card.vocab} tokens, and the server wrote others")
        return
    with torch.inference_mode():
        logits = loaded.model(text, use_cache=False).logits[0, n_prompt - 1 : -1].float()
    logprobs = torch.log_softmax(logits, -1)
    entropies = (-(logprobs.exp() * logprobs).sum(-1)).tolist()
    between = bands(answer, examination.server.vocab or loaded.card.vocab, examination.server.n_logprobs)
    yield from _compared(answer, logprobs.tolist(), entropies, between, spec.name)


def _compared(
    answer: Answer, logprobs: list[list[float]], entropies: list[float], between: list[Band], name: str
) -> Iterator[Finding]:
    furthest, n_same, n_ranked = 0.0, 0, 0
    for token, own in zip(answer.tokens, logprobs, strict=True):
        for one in token.alternatives:
            if one.token_id is not None:
                furthest = max(furthest, abs(math.exp(one.logprob) - math.exp(own[one.token_id])))
        if token.alternatives and token.alternatives[0].token_id is not None:
            n_ranked += 1
            n_same += own[token.alternatives[0].token_id] >= max(own) - CLOSE
    inside = sum(
        low - CLOSE <= entropy <= high + CLOSE for (low, high), entropy in zip(between, entropies, strict=True)
    )
    close = furthest <= CLOSE
    yield Finding(
        "against", PASSED if close else NOTED, f"probabilities are at most {furthest:.2g} from those of {name} here"
    )
    yield Finding("same top", PASSED if n_same == n_ranked else NOTED, f"at {n_same} of {n_ranked} tokens")
    yield Finding(
        "entropy in band", PASSED if inside == len(entropies) else NOTED, f"at {inside} of {len(entropies)} tokens"
    )
