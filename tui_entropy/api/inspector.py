"""Inspector: a model that writes and reads, with everything that it believed at each token, from Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tui_entropy.api.answers import Answer
from tui_entropy.api.drawing import Drawing
from tui_entropy.api.given import knobs_with, labelled_texts, messages_of, text_of, whole
from tui_entropy.api.run import Run
from tui_entropy.api.runs import Runs
from tui_entropy.api.settings import Settings
from tui_entropy.core.errors import UserError
from tui_entropy.records.commands import Write
from tui_entropy.records.step import Step

MAX_TOKENS = 512
Texts = Iterable[str] | Mapping[Any, str]


class Inspector(Settings):
    """A model in an inspector without a screen: the same session, numbers and records as the program's.

    It is open from the start, and a context manager: `close`, or the end of a `with`, stops what is written, ends the
    record and leaves the model as it was found. Entered again it goes on with a new session of the same model. Torch
    runs in the thread that calls. Every mistake is a UserError with one sentence.

    Args:
        model: a Hugging Face id, a folder, a GGUF file or a name of `tui-entropy models`; a ModelSpec; a
            model of transformers, as it is; or the `loaded` model of an Inspector that is closed.
        tokenizer: of a model of transformers.
        trace: a file to record everything in, which `load_trace`, `Inspector.open` and the program read.
        record_attention: with a trace, which attention rows go into it: 'off', 'shown' or 'all'.
        kept_cache: bytes of keys and values kept beside those of the run that is written, for going back and to
            others.
        progress: told what loading a model is at; by default a download is told on stderr.
        options: device, dtype, revision, trust_remote_code, chat_template, products and graph, as the options of the
            command; and knobs, such as temperature=0, which hold for everything that is written.

    Example:
        >>> with Inspector("smollm2") as inspector:  # doctest: +SKIP
        ...     run = inspector.generate("The capital of France is", max_tokens=20)
        >>> run.entropy, run.to_pandas(), run.show()  # doctest: +SKIP
    """

    # --- Writing and reading -------------------------------------------------------------------------------------

    def write(
        self,
        prompt: str,
        *,
        max_tokens: int = MAX_TOKENS,
        system: str | None = None,
        chat: bool | None = None,
        score_prompt: bool = True,
        **knobs: Any,
    ) -> Run:
        """A run that writes from a prompt, a token each time that a loop over it asks for one. In between it can be
        looked at and changed; `set`, `steer`, `force` and the others act on the next token.

        Args:
            prompt: what it writes from.
            max_tokens: tokens to write at most.
            system: the system prompt of the chat template.
            chat: whether the chat template is used; None for wherever the model has one.
            score_prompt: whether the tokens of the prompt are scored too.
            knobs: temperature, top_k, top_p, min_p, seed, ...; without any the program's own, a temperature of 0.7.

        Raises UserError for a prompt, a knob or a value that cannot be.

        Example:
            >>> run = inspector.write("The capital of France is", chat=False, max_tokens=3, temperature=0)
            >>> [step.text for step in run]
            [' Paris', '.', '\\n']
        """
        text = text_of(prompt)
        wanted = knobs_with(self._usual, knobs, self.card.vocab)
        n = whole(max_tokens, "max_tokens")
        said = None if system is None else text_of(system, "the system prompt")
        number = self._live.begin(Write(text, said, chat, n, wanted, score_prompt))
        return self.run_of(number)

    def generate(self, prompt: str, **options: Any) -> Run:
        """Write to the end, or to a breakpoint, in one go; options as of `write`.

        Example:
            >>> inspector.generate("The capital of France is", chat=False, max_tokens=2, temperature=0).text
            ' Paris.'
        """
        return self.write(prompt, **options).finish()

    def read(
        self,
        text: str | Sequence[Mapping[str, str]],
        *,
        chat: bool | None = None,
        max_tokens: int = MAX_TOKENS,
        **knobs: Any,
    ) -> Run:
        """Read a text that is there, in one pass: each of its tokens but the first is a step, which nobody drew.
        Heads and norms of a step come with `run.visit`.

        Args:
            text: a text, or a conversation as mappings with a role and a content, which goes through the chat
            template. chat: whether a text goes through the chat template, as what a user said; None for only
            conversations. max_tokens: tokens to write behind it at most, if it is gone on with.
            knobs: under which the final distributions are measured.

        Raises UserError for what is no text, has fewer than two tokens, or more than the model reads.

        Example:
            >>> run = inspector.read("The capital of France is Paris.")
            >>> run.text
            ' capital of France is Paris.'
            >>> run.tokens[int(run.surprisal.argmax())]
            ' capital'
        """
        if not isinstance(text, str) and hasattr(text, "__iter__"):
            if isinstance(text, bytes) or not all(isinstance(one, Mapping) for one in text):
                text_of(text, "the text")
            words, messages = "", messages_of(text)
        else:
            words = text_of(text, "the text")
            messages = messages_of([{"role": "user", "content": words}]) if chat else ()
        wanted = knobs_with(self._usual, knobs, self.card.vocab)
        n = whole(max_tokens, "max_tokens")
        write = Write("" if messages else words, None, bool(messages), n, wanted, False, read=True, messages=messages)
        return self.run_of(self._live.begin(write)).finish()

    def write_all(self, prompts: Texts, **options: Any) -> Runs[Run]:
        """`generate` for each of several prompts: a list, an array, a Series, whose index labels the runs, or a
        mapping of labels to them. Raises UserError, which names the one that cannot be.

        Example:
            >>> runs = inspector.write_all(["1, 2, 3,", "A, B,"], chat=False, max_tokens=2, temperature=0)
            >>> [run.text for run in runs]
            [' 4', ' C,']
        """
        return self._each(prompts, lambda prompt: self.generate(prompt, **options))

    def read_all(self, texts: Texts, **options: Any) -> Runs[Run]:
        """`read` for each of several texts, given as to `write_all`.

        Example:
            >>> runs = inspector.read_all(["The quick brown fox.", "Fox brown quick the."])
            >>> bool(runs[0].surprisal.mean() < runs[1].surprisal.mean())
            True
        """
        return self._each(texts, lambda text: self.read(text, **options))

    def _each(self, texts: Texts, make: Callable[[str], Run]) -> Runs[Run]:
        labelled = labelled_texts(texts)
        runs = []
        for label, text in labelled:
            try:
                runs.append(make(text))
            except UserError as mistake:
                raise UserError(f"text {label!r}: {mistake}") from mistake
        return Runs(runs, [label for label, _ in labelled])

    # --- Of the present run --------------------------------------------------------------------------------------

    def set(self, **knobs: Any) -> None:
        """Turn knobs of the present run: see `Run.set`."""
        self.run.set(**knobs)

    def go(self, run: int | Run) -> Run:
        """Another run is the present one. It stands where it was left. Raises UserError for one that there is not.

        Example:
            >>> first, second = inspector.write("One"), inspector.write("Two")
            >>> inspector.go(first) is inspector.run
            True
        """
        there = self.run_of(run.number if isinstance(run, Run) else whole(run, "run"))
        with self._live.at_work():
            self._live.come_to(there.number)
        return there

    def branch(self, step: int | Step | None = None, **what: Any) -> Run:
        """A branch of the present run: see `Run.branch`."""
        return self.run.branch(step, **what)

    def force(self, text: str = "", tokens: Any = ()) -> Run:
        """What the present run writes next: see `Run.force`."""
        return self.run.force(text, tokens)

    def shadow(self, **what: Any) -> Run:
        """Another lane, measured at the tokens of the present run: see `Run.shadow`."""
        return self.run.shadow(**what)

    def unshadow(self) -> None:
        """See `Run.unshadow`."""
        self.run.unshadow()

    def twin(self, step: int | Step | None = None, **what: Any) -> tuple[Run, Run]:
        """The present run and a second one beside it: see `Run.twin`."""
        return self.run.twin(step, **what)

    def visit(self, step: int | Step) -> Step:
        """A step of the present run with all that its pass tells: see `Run.visit`."""
        return self.run.visit(step)

    def probe(self, name: str, /, position: int | Step | None = None, **options: Any) -> Answer:
        """Ask a probe about a token of the present run: see `Run.probe`.

        Example:
            >>> inspector.probe("lens", position=-1, k=5, tint="entropy").panels[0].unit
            'nats'
        """
        return self.run.probe(name, position, **options)

    def show(self, tint: str = "entropy", unit: str = "nats") -> Drawing:
        """The present run, drawn: see `RunData.show`."""
        return self.run.show(tint, unit)
