"""NumbersPoll: asks a server for the numbers of a request while that is written, one question at a time."""

from __future__ import annotations

import threading
import time

from tui_entropy.core.errors import UserError
from tui_entropy.servers.http.client import HttpClient
from tui_entropy.servers.vllm_lens.hook_plan import Measured
from tui_entropy.servers.vllm_lens.told_numbers import Reply, ToldNumbers, read_reply

COLLECT = "/v1/hooks/collect"
MOST_BYTES = 64 << 20
"""Of a reply; what other tools leave at the server comes along."""
MOST_HELD = 4096
"""Positions whose numbers came before they were wanted, as while nobody reads on."""
MOST_FAILURES = 3
"""Questions in a row without an answer, after which none is asked any more."""
MOST_IDLE = 4
"""Answers in a row that bring nothing further, after which the next question waits until somebody waits."""
GAP_S = 0.01
"""Between two questions."""


class NumbersPoll:
    """On a thread of its own. A question waits at the server for the end of a pass, so the next one is asked as soon
    as one was answered, for as long as answers bring something now and then; else when somebody waits for numbers."""

    def __init__(self, client: HttpClient, stream: str, measured: Measured) -> None:
        self._client, self._stream, self._measured = client, stream, measured
        self._changed = threading.Condition()
        self._told: dict[int, ToldNumbers] = {}
        self._newest = -1
        """The furthest position that was told of."""
        self._n_idle = 0
        """Answers in a row that brought nothing further, since the first numbers came or somebody waited in vain."""
        self._is_late = False
        """Somebody waited in vain."""
        self._wanted: int | None = None
        self._needed = -1
        """Numbers of positions before it are needed no more."""
        self._closed = False
        self.n_odd = 0
        """Most entries of one reply that could be no numbers."""
        self.error = ""
        """What went wrong in the hook, or why nothing is asked any more."""
        self._thread = threading.Thread(target=self._run, daemon=True, name="numbers poll")
        self._thread.start()

    def numbers(self, position: int, until: float) -> ToldNumbers | None:
        """Those of a position; None where they have not come by that time.monotonic()."""
        with self._changed:
            self._wanted = self._needed = position
            self._changed.notify_all()
            while position not in self._told and not self.error and not self._closed:
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            self._wanted = None
            found = self._told.get(position)
            self._is_late = found is None
            for before in [at for at in self._told if at <= position]:
                del self._told[before]
            return found

    def close(self) -> None:
        """Ask nothing further. A question that is asked is not waited for."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Until what was asked is answered, after `close`. Returns whether it is."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        n_failed = 0
        while self._waits_for_a_question():
            try:
                reply = self._client.post(COLLECT, {}, most_bytes=MOST_BYTES)
                n_failed = 0
            except UserError as failure:
                n_failed += 1
                reply = None
                if n_failed >= MOST_FAILURES:
                    self._heard(Reply(error=str(failure)))
            if reply is not None:
                self._heard(read_reply(reply, self._stream, self._measured))
            time.sleep(GAP_S)

    def _waits_for_a_question(self) -> bool:
        with self._changed:
            while not self._closed and (self.error or not (self._n_idle < MOST_IDLE or self._is_missed())):
                self._changed.wait()
            return not self._closed

    def _is_missed(self) -> bool:
        return self._wanted is not None and self._wanted not in self._told

    def _heard(self, reply: Reply) -> None:
        with self._changed:
            newest = max(reply.by_position, default=-1)
            is_first_awaited = newest < 0 and not self._is_late
            self._n_idle = 0 if newest > self._newest or is_first_awaited else self._n_idle + 1
            self._newest = max(newest, self._newest)
            self._told |= {at: told for at, told in reply.by_position.items() if at >= self._needed}
            for position in sorted(self._told)[:-MOST_HELD]:
                del self._told[position]
            self.n_odd = max(self.n_odd, reply.n_odd)
            self.error = self.error or reply.error
            self._changed.notify_all()
