"""What it takes to go on with a recording, once its model is up."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import torch
from engine import GREEDY, finished, loaded_model, prompt_ids
from figures import Figure, Settings, in_turns, ratio, spread

from tui_entropy.engine.decoding.instruments import Instruments, open_instruments
from tui_entropy.engine.decoding.loop import decode
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.reopening.recorded_session import RecordedSession
from tui_entropy.engine.sequence.sequence import TokenSequence
from tui_entropy.engine.session.session import Session
from tui_entropy.records.commands import Reopen, Write
from tui_entropy.records.events import Ready
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step
from tui_entropy.trace.writer import Recorder

LENGTH = 2000


def reopened(settings: Settings) -> Iterator[Figure]:
    """From a recording of 2,000 steps to its next token held up: copied, restored and read again, against a prompt of
    as many tokens that is read without scores."""
    loaded = loaded_model(settings)
    with open_instruments(loaded) as instruments, tempfile.TemporaryDirectory() as folder:
        recording = _recorded(loaded, instruments, Path(folder) / "a.tui")

        def reopen() -> None:
            with closing(Recorder(Path(folder) / "b.tui", origin=recording)) as recorder:
                session = Session(loaded, instruments, recorder.take)
                RecordedSession(session, recording).enter(Reopen(str(recording)))
                while session.reading:
                    session.advance()
                session.look_ahead()
                assert session.state.proposed is not None

        ids = prompt_ids(loaded, LENGTH + 1)

        def prefill() -> None:
            sequence = TokenSequence(loaded, ids, 8)
            next(
                one
                for one in decode(loaded, instruments, sequence, lambda: GREEDY, 1, False)
                if isinstance(one, Step)
            )

        prefill()
        times = in_turns({"reopened": _timed(reopen, loaded), "prefill": _timed(prefill, loaded)}, settings.rounds)
    detail = f"{spread(times['reopened'], 's')}, read as a prompt {spread(times['prefill'], 's')}"
    name = f"a recording of {LENGTH} tokens gone on with / a prompt of them read"
    yield Figure(name, ratio(times["reopened"], times["prefill"]), "x", "<= 1.1", detail)


def _timed(act: Callable[[], None], loaded: Loaded) -> Callable[[], float]:
    """Seconds that it takes."""

    def timed() -> float:
        began = finished(loaded.model.device)
        act()
        return finished(loaded.model.device) - began

    return timed


@torch.inference_mode()
def _recorded(loaded: Loaded, instruments: Instruments, path: Path) -> Path:
    """A recording of a text of so many tokens, each a step with all that follows from its logits."""
    recorder = Recorder(path)
    session = Session(loaded, instruments, recorder.take)
    recorder.take(Ready(loaded.card, session.state.vectors))
    ids = tuple(prompt_ids(loaded, LENGTH + 1))
    session.begin(Write("", None, False, 64, Knobs(temperature=0.0), False, read=True, token_ids=ids))
    while session.state.n_written < LENGTH:
        session.advance()
    recorder.close()
    return path
