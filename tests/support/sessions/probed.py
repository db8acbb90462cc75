"""Probes asked of a short text that a tiny model of any family has written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import families
import small
import tiny
import torch
from transformers import PreTrainedModel

from tui_entropy.engine.architecture.architecture import architecture_of
from tui_entropy.engine.decoding.instruments import open_instruments
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.probes.answer import answer
from tui_entropy.engine.probes.probe import Probe
from tui_entropy.engine.session.session import Session
from tui_entropy.engine.tokenization.tokenizer import Tokenizer
from tui_entropy.engine.verify.checks.probes import Evidence
from tui_entropy.engine.verify.evidence.compare import allowed, gap
from tui_entropy.records.commands import Write
from tui_entropy.records.probes.ask import AskProbe, ProbeAnswer
from tui_entropy.records.sampling import Knobs

TEXT = "a keeper of the light"
N = 4


def of_family(name: str) -> Loaded:
    """A tiny random model of a family of transformers, whose texts never end."""
    return of_model(tiny.FAMILIES[name]() if name in tiny.FAMILIES else families.built(name))


def of_model(model: PreTrainedModel) -> Loaded:
    tokenizer = Tokenizer(small.tokenizer(tiny.VOCAB))
    return small.endless(Loaded(model, tokenizer, architecture_of(model), small.card(model)))


@contextmanager
def written(loaded: Loaded, text: str = TEXT, n: int = N) -> Iterator[Session]:
    """A session with a run of one short text."""
    with open_instruments(loaded, graph=False) as watching:
        session = Session(loaded, watching, lambda event: None)
        session.begin(Write(text, None, False, n, Knobs()))
        while session.active:
            session.advance()
        yield session


def asked(session: Session, name: str, position: int = -1, **options: Any) -> ProbeAnswer:
    """position: negative ones from the end of the text."""
    n = session.state.run_of(1).sequence.n_tokens
    return answer(session, AskProbe(name, 1, position % n, options))


def doctored(session: Session, probe: Probe, **options: Any) -> list[float]:
    """Of each number of an answer that doctor compares: how far it is off, as a share of what is allowed."""
    sequence = session.state.run_of(1).sequence
    position = sequence.n_tokens - 1
    step: Any = SimpleNamespace(token_id=int(sequence.ids[position]))
    told = asked(session, probe.name, **options)
    with torch.inference_mode():
        evidence = Evidence(session.state.loaded, sequence.ids, position, step)
        found = list(probe.check(told, evidence))
    return [gap(one, other) / allowed(torch.float32, size) for one, other, size in found]
