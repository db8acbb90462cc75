"""OpenModel: a model with a session that is open, closed and opened again, and the runs that there are."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tui_entropy.analysis.console_progress import Narrator
from tui_entropy.api.given import knobs_with, model_of, plain, similar, text_of, whole
from tui_entropy.api.live import LiveSession
from tui_entropy.api.run import Run
from tui_entropy.api.runs import Runs
from tui_entropy.core.errors import UserError
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.probes.registry import PROBES
from tui_entropy.records.commands import Reopen
from tui_entropy.records.events import Progress
from tui_entropy.records.model import ModelCard, ModelSpec
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import RECORDED_ROWS, Breakpoint
from tui_entropy.trace.library import reopened_spec, resolve
from tui_entropy.trace.writer import has_writer

KEPT_CACHE = 1 << 30


class OpenModel:
    """What an Inspector is apart from what it does: a model, a session with it, and the runs of that."""

    def __init__(
        self,
        model: str | PathLike[str] | ModelSpec | Loaded | PreTrainedModel = "smollm2",
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        trace: str | PathLike[str] | None = None,
        record_attention: str = "shown",
        kept_cache: int = KEPT_CACHE,
        progress: Callable[[Progress], None] | None = None,
        **options: Any,
    ) -> None:
        self._begin(model, tokenizer, None, trace, record_attention, kept_cache, progress, options)

    def _begin(
        self,
        model: Any,
        tokenizer: Any,
        reopen: Reopen | None,
        trace: str | PathLike[str] | None,
        record_attention: str,
        kept_cache: int,
        progress: Callable[[Progress], None] | None,
        options: Mapping[str, Any],
    ) -> None:
        self._file = None if trace is None else Path(fspath(trace))
        if self._file is not None and self._file.exists():
            raise UserError(f"trace {self._file} is there already: give another name, or remove it")
        if record_attention not in RECORDED_ROWS:
            raise UserError(f"record_attention is {record_attention!r} but must be one of {', '.join(RECORDED_ROWS)}")
        about = {name: value for name, value in options.items() if name in ModelSpec.__struct_fields__}
        knobs = {name: value for name, value in options.items() if name not in about}
        known = (*Knobs.__struct_fields__, *ModelSpec.__struct_fields__[1:])
        if unknown := [name for name in knobs if name not in known]:
            raise UserError(f"there is no option {unknown[0]!r}: {similar(unknown[0], known)}")
        self._usual = knobs_with(Knobs(), knobs)
        self._rows, self._kept = record_attention, whole(kept_cache, "kept_cache", 0, 1 << 62)
        self.loaded = model_of(model, tokenizer, about, progress or _tell_downloads)
        """The model with its tokenizer, for another Inspector once this one is closed."""
        self._breakpoints: tuple[str, ...] = ()
        self._watches: tuple[str, ...] = ()
        self._open(reopen)

    def _open(self, reopen: Reopen | None = None) -> None:
        self._live = LiveSession(self.loaded, self._file, reopen, self._rows, self._kept)
        self._end = weakref.finalize(self, self._live.close)
        self._runs: weakref.WeakValueDictionary[int, Run] = weakref.WeakValueDictionary()
        with self._live.at_work() as session:
            if self._watches:
                session.set_watches(self._watches)
            if self._breakpoints:
                session.set_breakpoints(numbered(self._breakpoints))

    @classmethod
    def open(
        cls,
        trace: str | PathLike[str],
        run: int | None = None,
        *,
        model: str | PathLike[str] | None = None,
        max_tokens: int | None = None,
        despite: bool = False,
        record: str | PathLike[str] | None = None,
        record_attention: str = "shown",
        kept_cache: int = KEPT_CACHE,
        progress: Callable[[Progress], None] | None = None,
        **options: Any,
    ) -> Self:
        """Go on with a recording as if it had never ended: its model is loaded, and the text of one run read once.

        Args:
            trace: a file, a name of `tui-entropy traces` or a part of it, or 'last'. It stays as it is.
            run: which one is gone on with, by its number; None for the one that was looked at last.
            model: where its model is, if not where it was.
            max_tokens: tokens that may be written from now on; None for what is left of the run's own limit.
            despite: whether model, tokenizer or vectors may be others than they were.
            record: a file to record in from now on, which begins as a copy of the trace.

        Raises UserError for what is no recording, and where something differs.

        Example:
            >>> with Inspector.open(recording) as opened:
            ...     n = len(opened.run)
            ...     len(opened.run.advance(2))
            2
        """
        path = resolve(text_of(plain(trace), "the trace")).absolute()
        if has_writer(path):
            raise UserError(f"{path} is still being written: close who writes it first")
        given = {} if model is None else {"name": text_of(plain(model), "the model")}
        about = {name: value for name, value in options.items() if name in ModelSpec.__struct_fields__}
        spec, _ = reopened_spec(path, given | about)
        if spec.server is not None:
            raise UserError(f"{path} was written through a server: `tui-entropy open` goes on with it")
        rest = {name: value for name, value in options.items() if name not in about}
        number = None if run is None else whole(run, "run")
        n = None if max_tokens is None else whole(max_tokens, "max_tokens")
        made = cls.__new__(cls)
        made._begin(
            spec, None, Reopen(str(path), number, n, despite), record, record_attention, kept_cache, progress, rest
        )
        return made

    # --- Open and closed -----------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        return self._live.closed

    def close(self) -> None:
        """Stop what is written, end the record, and leave the model as it was found. Closing twice is fine."""
        self._end()

    def __enter__(self) -> Self:
        if self.closed:
            self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- What there is -------------------------------------------------------------------------------------------

    @property
    def card(self) -> ModelCard:
        """What is known of the model: n_layers, n_heads, d_model, context, ..."""
        return self.loaded.card

    @property
    def model(self) -> PreTrainedModel:
        """The model itself, of transformers. It is watched while this is open: see `unwatched`."""
        return self.loaded.model

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of transformers."""
        return self.loaded.tokenizer.hf_tokenizer

    @contextmanager
    def unwatched(self) -> Iterator[PreTrainedModel]:
        """The model by itself, neither measured nor steered, for calls of one's own. What is written goes on after
        the `with` as if nothing had been.

        Example:
            >>> import torch
            >>> with inspector.unwatched() as model, torch.inference_mode():
            ...     model(torch.tensor(run.prompt_ids[None])).logits.shape[-1] == inspector.card.vocab
            True
        """
        with self._live.at_work() as session, session.state.instruments.nobody_looking(self.loaded):
            session.state.instruments.steering.set({})
            yield self.loaded.model

    @property
    def trace(self) -> Path | None:
        """The file that everything is recorded in."""
        return self._live.recorder.path

    @property
    def run(self) -> Run:
        """The one that was written, read or gone to last. Raises UserError before the first."""
        number = self._live.session.state.run_number
        if not number:
            raise UserError("nothing is written yet: begin with write, generate or read")
        return self.run_of(number)

    @property
    def runs(self) -> Runs[Run]:
        """All of them, in the order they began."""
        return Runs(map(self.run_of, self._live.log.runs))

    def run_of(self, number: int) -> Run:
        """The run of a number. Raises UserError for one that there is not."""
        if number not in self._live.log.runs:
            raise UserError(f"there is no run {number!r}: there are {len(self._live.log.runs)}, counted from 1")
        if (run := self._runs.get(number)) is None:
            run = self._runs[number] = Run(self, self._live, number)
        return run

    @property
    def probes(self) -> dict[str, str]:
        """Name -> what it answers, of every probe that can be asked.

        Example:
            >>> inspector.probes["lens"]
            'What each layer would have said, had the model stopped there, at this token and those before.'
        """
        return {probe.name: probe.about for probe in PROBES}

    def __repr__(self) -> str:
        card, n = self.card, len(self._live.log.runs)
        standing = "closed" if self.closed else f"{n} run{'s' * (n != 1)}"
        record = f", recorded in {self.trace}" if self.trace else ""
        return (
            f"<Inspector of {card.name}: {card.n_layers} layers, {card.n_heads} heads, {card.device} {card.dtype}; "
            f"{standing}{record}>"
        )


def numbered(expressions: Iterable[str]) -> tuple[Breakpoint, ...]:
    return tuple(Breakpoint(number, text) for number, text in enumerate(expressions, 1))


def _tell_downloads(progress: Progress) -> None:
    """What takes long is told on stderr; a model that is on the disk is there in a moment."""
    if progress.total:
        _narrator.progress(progress)


_narrator = Narrator()
