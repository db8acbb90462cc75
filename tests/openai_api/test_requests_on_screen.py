"""The screen of a person while requests come: it shows them with their knobs, and a person's own are there again."""

import threading

from endpoints import WORDS
from inspectors import screen_text, settled, until

from tui_entropy.records.model import ModelSpec
from tui_entropy.ui.app.app import InspectorApp


async def test_a_request_is_on_the_screen_with_its_knobs_and_a_persons_own_come_back(served, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    app = InspectorApp(ModelSpec("tiny"), attach=served.socket)
    async with app.run_test(size=(140, 40)) as pilot:
        await until(pilot, lambda: app.link.standing is not None and app.frame.log.card is not None)
        await until(pilot, lambda: app.link.in_control)
        await pilot.press("T")
        own = app.frame.knobs
        shown = []
        body = {"prompt": WORDS, "max_tokens": 150, "temperature": 1.9, "logit_bias": {"256": -100, "258": -100}}
        asked = threading.Thread(target=lambda: shown.append(served.post("completions", **body)))
        asked.start()
        await until(pilot, lambda: app.frame.knobs.temperature == 1.9 and len(app.frame.log.steps) > 3)
        await pilot.press("space")
        await until(pilot, lambda: app.frame.log.state == "paused")
        await settled(app, pilot)
        assert WORDS in screen_text(app) and app.frame.log.started.request.startswith("cmpl-")
        await pilot.press("s")
        await until(pilot, lambda: app.frame.log.state == "ended")
        await until(pilot, lambda: app.frame.knobs == own)
        asked.join(20)
        assert shown[0].json()["choices"][0]["finish_reason"] == "stop"
        await pilot.press("ctrl+d")
