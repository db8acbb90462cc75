"""A ServerSource in this process, and what it told."""

from contextlib import contextmanager

from tui_entropy.records.commands import Load, Write
from tui_entropy.records.model import ModelSpec, ServerSpec
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.step import Step
from tui_entropy.servers.server_source import ServerSource

GREEDY = Knobs(temperature=0.0)


class Heard:
    """An audience that keeps what it is told."""

    def __init__(self):
        self.events = []

    def emit(self, event):
        self.events.append(event)

    answer = emit

    def hears_cancel(self):
        return False

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def steps(self):
        return self.of(Step)

    @property
    def text(self):
        return "".join(step.text for step in self.steps)


@contextmanager
def source_of(url, own_draw=None, vector_files=None, **spec):
    """(source, what it told), once it is up."""
    heard = Heard()
    source = ServerSource(heard, own_draw, vector_files)
    try:
        source.begin(Load(ModelSpec("x", server=ServerSpec(url, **spec))))
        yield source, heard
    finally:
        source.close()


def write(source, prompt="The", n=12, knobs=GREEDY, chat=False):
    """Until the text rests."""
    source.handle(Write(prompt, None, chat, n, knobs))
    advance(source)


def advance(source):
    while source.state == "writing":
        source.advance()
