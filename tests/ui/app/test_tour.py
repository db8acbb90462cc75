"""The tour: it opens, it says what is there, it goes by itself and waits while a person looks around."""

import pytest
from inspectors import screen_text, settled

from tui_entropy.core.errors import UserError
from tui_entropy.trace.playback import Playback
from tui_entropy.trace.reader import Trace
from tui_entropy.ui.app.tour import TOUR, Timeline, TourApp, read_captions
from tui_entropy.ui.capture import film
from tui_entropy.ui.drawing.glyphs import cells

CAPTIONS = read_captions(TOUR / "tour.toml")


def shown():
    """The tour, in which time passes only when told."""
    clock = film.Clock()
    app = TourApp(Playback(Trace.open(TOUR / "tour.tui"), clock=clock), CAPTIONS)

    def wait(seconds):
        clock.now += seconds
        app._go_on()
        app.timeline = Timeline(app.timeline.at(app.clock.time()) + seconds, app.clock.time())
        app._come()

    app.wait = wait
    return app


def test_it_is_small_and_tells_nothing_of_where_it_was_made():
    data = (TOUR / "tour.tui").read_bytes()
    assert len(data) < 300_000
    assert not any(path in data for path in (b"/tmp/", b"/home/", b"/work/", b"/root/", b"/Users/"))


def test_it_takes_a_minute_in_sentences_that_fit_a_small_terminal():
    assert CAPTIONS.caption[0].at == 0 and 50 <= CAPTIONS.caption[-1].at <= 60
    for caption in CAPTIONS.caption:
        assert cells(caption.sentence({})) <= 78 and "{" not in caption.sentence({})


def test_what_it_says_of_single_tokens_is_so():
    steps = list(Trace.open(TOUR / "tour.tui").steps(1))
    canberra, two, widely = steps[5], steps[20], steps[13]
    assert canberra.text == " Canberra" and canberra.rank == 1 and canberra.entropy < 1
    assert two.text == " two" and two.rank == 3
    assert widely.entropy == max(step.entropy for step in steps)


@pytest.mark.parametrize("size", [(80, 24), (120, 36), (200, 60)], ids=str)
async def test_each_caption_comes_in_its_time_with_what_it_speaks_of(size):
    app = shown()
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        for before, caption in zip((CAPTIONS.caption[0], *CAPTIONS.caption), CAPTIONS.caption, strict=False):
            app.wait(caption.at - before.at)
            await settled(app, pilot)
            assert caption.sentence({}) in screen_text(app)
            assert (app.page.called if app.page else "") == caption.page
            if caption.cursor:
                assert app.frame.cursor == caption.cursor - 1
            if caption.pane:
                assert app.base.query_one(f"#{caption.pane}").display
        assert app.playback.at_end and app._alarm is None


async def test_a_key_has_it_wait_and_space_has_it_go_on():
    app = shown()
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        app.wait(CAPTIONS.caption[2].at)
        await pilot.press("right")
        await settled(app, pilot)
        assert not app.goes and app._alarm is None and app.frame.cursor == CAPTIONS.caption[2].cursor
        assert "the tour waits" in screen_text(app)
        await pilot.press("N")
        await pilot.pause()
        assert app.page.called == "numbers"
        await pilot.press("escape", "space")
        await settled(app, pilot)
        assert app.goes and app._alarm is not None and app.frame.cursor == CAPTIONS.caption[2].cursor - 1
        await pilot.press("space")
        assert not app.goes
        await pilot.press("q")
    assert app.leaving


async def test_while_the_text_is_written_a_pause_stops_it_and_a_step_writes_one_token():
    app = shown()
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        app.wait(5.0)
        await pilot.press("space")
        n = app.playback.n_written
        assert 0 < n < app.playback.length and not app.playback.playing
        await pilot.press("n")
        assert app.playback.n_written == n + 1 and not app.goes
        await pilot.press("space")
        assert app.playback.playing and app.goes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("text_seconds = 1\ncaption = [{at = 0, text = 'a {nokey}'}]", "key nokey"),
        ("text_seconds = 1\ncaption = [{at = 0, text = 'a', page = 'none'}]", "page none"),
        ("text_seconds = 1\ncaption = [{at = 0, text = 'a', pane = 'none'}]", "pane none"),
        ("text_seconds = 1\ncaption = [{at = 2, text = 'a'}, {at = 1, text = 'b'}]", "in the order of their times"),
        ("text_seconds = 1\ncaption = []", "one caption at least"),
        ("text_seconds = 1\ncaption = [{at = 0, text = 'a', odd = 1}]", "holds no captions"),
        ("text_seconds = ", "holds no captions"),
    ],
)
def test_captions_that_name_what_there_is_not_are_refused(tmp_path, text, said):
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(UserError, match=said):
        read_captions(tmp_path / "c.toml")
