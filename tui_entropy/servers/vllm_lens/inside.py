"""Inside: what a session has of a server's plugin: streams that are measured and steered, and the vectors."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from contextlib import suppress

from tui_entropy.core.errors import UserError
from tui_entropy.records.lens_rows import layers_read
from tui_entropy.records.model import ModelCard
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.source import VectorFiles
from tui_entropy.servers.kinds.kind import Context, Kind, Request
from tui_entropy.servers.vllm_lens.described import blocks_of, not_streamed
from tui_entropy.servers.vllm_lens.hook_plan import Measured, ModelInside, removal_fields, request_fields
from tui_entropy.servers.vllm_lens.measured_stream import MeasuredStream
from tui_entropy.servers.vllm_lens.numbers_poll import COLLECT, MOST_BYTES, NumbersPoll
from tui_entropy.servers.vllm_lens.steering import Change, Steering
from tui_entropy.servers.vllm_lens.told_numbers import told_streams

CLOSE_S = 5.0
"""Seconds for which the end of a session waits for a server, for each thing that it asks."""
MOST_REMOVED = 256


class Inside:
    """Of one session."""

    def __init__(self, server: Kind, model: ModelInside, card: ModelCard, vector_files: VectorFiles | None) -> None:
        self._server, self._model = server, model
        self._attention = blocks_of(server.spec.lens, model)
        self.steering = Steering(card, vector_files)
        self._polls: list[NumbersPoll] = []
        """Those that may have asked something still."""
        self._streams: list[str] = []
        """The names of what was measured."""

    def stream(
        self,
        request: Request,
        ids: Sequence[int],
        n_prompt: int,
        max_tokens: int,
        knobs: Knobs,
        changes: list[Change],
    ) -> MeasuredStream:
        """The answer to a request for what follows these ids."""
        path, body = request
        lens = layers_read(self._model.n_layers, knobs.lens) if knobs.lens and self._model.norm else ()
        measured = Measured(self._model, self._attention, lens, knobs.lens_steps)
        pushes = self.steering.pushes(changes, n_prompt, max_tokens)
        name = uuid.uuid4().hex
        self._streams.append(name)
        fields = request_fields(measured, pushes, name, n_prompt, len(ids))
        if pushes.segments:
            # What is steered must not be found in the prefix cache by a text of somebody else that begins alike.
            body["cache_salt"] = name
        request = path, {**body, "vllm_xargs": fields}
        stream = MeasuredStream(self._server, request, ids, name, measured, pushes)
        self._polls = [*(poll for poll in self._polls if not poll.wait(0)), stream.poll]
        return stream

    def close(self) -> None:
        """Leave no connection open and no numbers at the server. All streams are closed."""
        for poll in self._polls:
            poll.wait(CLOSE_S)
        with suppress(UserError):  # else the next text that is measured does it
            until = time.monotonic() + CLOSE_S
            # A pass that was running when its text was given up may tell of it once more.
            while self._is_any_left() and time.monotonic() < until:
                self._remove()

    def _is_any_left(self) -> bool:
        if not self._streams:
            return False
        reply = self._server.client.post(COLLECT, {}, timeout=CLOSE_S, most_bytes=MOST_BYTES)
        return not told_streams(reply).isdisjoint(self._streams)

    def _remove(self) -> None:
        path, body = self._server.request(Context(ids=(1,)), Knobs(temperature=0.0), 1, 0)
        body["vllm_xargs"] = removal_fields(self._streams[-MOST_REMOVED:])
        self._server.client.post(*not_streamed((path, body)), timeout=CLOSE_S)
