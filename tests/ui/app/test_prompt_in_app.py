"""The prompt box in the app: what is typed and pasted, what is sent, and its history."""

from inspectors import screen_text, up, writing

from tui_entropy.records.sampling import Knobs
from tui_entropy.ui.dialogs.prompt_box import History, Prompt


async def test_a_prompt_of_several_lines_with_markup_is_sent_as_typed():
    app = up()
    async with app.run_test() as pilot:
        await writing(app, pilot)
        await pilot.press("i", "left_square_bracket", "slash", "ctrl+j", "q", "T", "enter")
        sent = app.sent[-1]
        assert (sent.prompt, sent.chat, sent.system) == ("[/\nqT", True, None)
        assert app.focused.id == "stream" and app.frame.knobs == Knobs()


async def test_raw_mode_and_a_system_prompt():
    app = up()
    async with app.run_test() as pilot:
        await writing(app, pilot)
        await pilot.press("i", "tab", "o", "k", "tab", "h", "i", "enter")
        assert (app.sent[-1].prompt, app.sent[-1].system, app.sent[-1].chat) == ("hi", "ok", True)
        await pilot.press("i", "ctrl+t", "y", "o", "enter")
        assert (app.sent[-1].prompt, app.sent[-1].system, app.sent[-1].chat) == ("yo", None, False)
        assert not app.sent[-1].read
        await pilot.press("i", "ctrl+t")
        assert "a text to be read" in screen_text(app)
        await pilot.press("y", "o", "enter")
        assert (app.sent[-1].prompt, app.sent[-1].chat, app.sent[-1].read) == ("yo", False, True)
        await pilot.press("i", "ctrl+t", "h", "enter")
        assert (app.sent[-1].system, app.sent[-1].chat, app.sent[-1].read) == ("ok", True, False)


async def test_history_is_kept_for_the_next_start(tmp_path):
    for words in ("one", "two"):
        app = up()
        async with app.run_test() as pilot:
            await writing(app, pilot)
            await pilot.press("i", *words, "enter")
    app = up()
    async with app.run_test() as pilot:
        await writing(app, pilot)
        await pilot.press("i", "x", "up", "up", "up", "down", "enter")
        assert app.sent[-1].prompt == "two"
        await pilot.press("i", "x", "up", "down", "enter")
        assert app.sent[-1].prompt == "x"


async def test_escape_closes_and_keeps_what_was_typed():
    app = up()
    async with app.run_test() as pilot:
        await writing(app, pilot)
        await pilot.press("i", "a", "b", "escape")
        assert not app.prompts.box.display and app.focused.id == "stream"
        await pilot.press("i", "c", "enter")
        assert app.sent[-1].prompt == "abc"


async def test_pasting_several_lines_does_not_send():
    app = up()
    async with app.run_test() as pilot:
        await writing(app, pilot)
        await pilot.press("i")
        from textual import events

        app.post_message(events.Paste("first\nsecond"))
        await pilot.pause()
        assert app.prompts.box.text.text == "first\nsecond" and app.sent == []


def test_a_broken_history_is_passed_over_and_not_lost(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_bytes(b'not json\n{"prompt":"a","system":null,"chat":true}\n\xff\n')
    history = History(file)
    assert history.prompts == [Prompt("a", None, True)]
    history.add(Prompt("b\nc", "s", False))
    assert History(file).prompts[-1] == Prompt("b\nc", "s", False)
