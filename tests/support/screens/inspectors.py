"""An inspector without an engine, brought to where a test begins, and what its screen shows."""

import asyncio

import fake_engine
import fake_probes

from tui_entropy.records.commands import Write
from tui_entropy.records.events import Ready
from tui_entropy.records.model import ModelSpec
from tui_entropy.records.sampling import Knobs
from tui_entropy.ui.app.app import InspectorApp

LAYERS, HEADS = 6, 4
WRITE = Write("Where is Paris?", None, True, 500, Knobs())
STEPS = 30


def up(write=WRITE, **stops):
    """An inspector without an engine; what it would tell one is in `sent`."""
    app = InspectorApp(ModelSpec("toy"), write, engine_command=None, **stops)
    app.sent = []
    app.tell = app.sent.append
    return app


def ready():
    return Ready(fake_engine.card(LAYERS, HEADS), fake_engine.vectors(LAYERS), probes=fake_probes.PROBES)


def begun(run=1, steps=STEPS):
    start = fake_engine.started(WRITE, run, fake_engine.vectors(LAYERS))
    prompt = len(start.prompt_tokens)
    return [start, *(fake_engine.step(i, prompt, LAYERS, HEADS, run=run) for i in range(steps))]


async def writing(app, pilot, steps=STEPS):
    app.take([ready(), *begun(steps=steps)])
    await settled(app, pilot)
    app.sent.clear()


async def settled(app, pilot):
    """Everything that came is on screen, heavy panes too."""
    async with asyncio.timeout(10):
        await pilot.pause()
        while getattr(app, "_arrived", ()) or not app.repaints.idle:
            alarm = app.repaints._alarm
            await asyncio.sleep(max(alarm.when() - app.clock.time(), 0) if alarm else 0)
            await pilot.pause()


def screen_text(app):
    return "\n".join("".join(segment.text for segment in strip) for strip in app.screen._compositor.render_strips())


async def until(pilot, condition, seconds=20.0):
    async with asyncio.timeout(seconds):
        while not condition():
            await pilot.pause(0.02)


def on_screen(app, name):
    """Cells that a pane has on the screen, none where it or a box around it is not displayed."""
    pane = app.query_one(f"#{name}")
    if not all(box.display for box in pane.ancestors_with_self if hasattr(box, "region")):
        return 0
    return pane.region.intersection(app.screen.region).area
