import math
from itertools import pairwise

import pytest
from rich.color import Color, ColorSystem, ColorType
from textual.app import App

from tui_entropy.core import paths
from tui_entropy.core.errors import UserError
from tui_entropy.ui.drawing.contrast import PALETTES
from tui_entropy.ui.drawing.paint import Paint
from tui_entropy.ui.drawing.theme import RAMPS, STYLES, load, read, textual_theme

SHIPPED = ["dark", "high-contrast", "light"]


def luminance(color: str) -> float:
    def linear(value: int) -> float:
        share = value / 255
        return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4

    red, green, blue = map(linear, Color.parse(color).get_truecolor())
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def broken(tmp_path, old: str, new: str):
    text = paths.theme_files()["dark"].read_text()
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize("ramp", RAMPS)
@pytest.mark.parametrize("name", SHIPPED)
def test_a_ramp_only_gets_lighter_or_only_darker(name, ramp):
    steps = [luminance(b) - luminance(a) for a, b in pairwise(load(name).full.ramps[ramp])]
    assert all(step > 0 for step in steps) or all(step < 0 for step in steps)


@pytest.mark.parametrize("terminal", PALETTES)
@pytest.mark.parametrize("name", SHIPPED)
def test_the_hot_colour_is_further_from_the_ground_than_the_calm_ones_in_sixteen_colours_too(name, terminal):
    theme = load(name)
    ground = "#000000" if theme.dark else "#ffffff"
    *calm, hot = [contrast(drawn_as(Color.parse(color), terminal), ground) for color in theme.sixteen.ramps["tint"]]
    assert all(hot > each for each in calm)


@pytest.mark.parametrize("ramp", RAMPS)
@pytest.mark.parametrize("name", SHIPPED)
def test_256_colours_show_the_same_ramp_as_24_bits(name, ramp):
    for color in load(name).full.ramps[ramp]:
        asked = Color.parse(color)
        assert asked.downgrade(ColorSystem.EIGHT_BIT).get_truecolor() == asked.get_truecolor()


def drawn_as(color: Color, terminal: str) -> str:
    """One of the sixteen colours as that terminal draws it, another as it is."""
    sixteen = color.type is ColorType.STANDARD
    return f"#{PALETTES[terminal].split()[color.number]}" if sixteen else color.name


@pytest.mark.parametrize("terminal", PALETTES)
@pytest.mark.parametrize("color", ["truecolor", "256", "16"])
@pytest.mark.parametrize("name", SHIPPED)
def test_letters_can_be_read_on_every_step_of_a_ramp(name, color, terminal):
    paint = Paint(load(name), color)
    levels = [level / 16 for level in range(17)]
    calm = [paint.calm_tint(step) for step in range(4)]
    for style in calm + [paint.tint(level) for level in levels] + [paint.cell(level, 2, "x")[1] for level in levels]:
        if style.color and style.bgcolor and not style.bgcolor.is_default:
            assert contrast(drawn_as(style.color, terminal), drawn_as(style.bgcolor, terminal)) >= 4.5, style


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("color", ["truecolor", "256"])
def test_letters_can_be_read_on_the_ground_of_the_screen(name, color):
    paint = Paint(load(name), color)
    for style in [getattr(paint, style) for style in STYLES if style not in ("rule", "selected")]:
        assert contrast(style.color.name, style.bgcolor.name) >= 4.5, style


QUIET = {"dim", "prompt", "rule"}
"""Grey in sixteen colours, which is up to the terminal; readable even so in the theme for high contrast."""


@pytest.mark.parametrize("terminal", PALETTES)
@pytest.mark.parametrize("name", SHIPPED)
def test_of_sixteen_colours_those_are_taken_that_stand_out_in_every_terminal(name, terminal):
    paint, theme = Paint(load(name), "16"), load(name)
    ground = drawn_as(Color.parse("black" if theme.dark else "bright_white"), terminal)
    for style in {*STYLES} - ({"rule"} if name == "high-contrast" else QUIET):
        ink, own = getattr(paint, style).color, getattr(paint, style).bgcolor
        behind = drawn_as(own, terminal) if own and not own.is_default else ground
        if ink and not ink.is_default:
            assert contrast(drawn_as(ink, terminal), behind) >= 3, style  # WCAG's bound for bold letters and marks


def oklab(color: str) -> tuple[float, float, float]:
    """Source: B. Ottosson, A perceptual color space for image processing, 2020."""
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (value / 255 for value in Color.parse(color).get_truecolor())
    )
    long = (0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue) ** (1 / 3)
    middle = (0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue) ** (1 / 3)
    short = (0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * middle - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * middle + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * middle - 0.8086757660 * short,
    )


@pytest.mark.parametrize("terminal", PALETTES)
@pytest.mark.parametrize("color", ["truecolor", "256", "16"])
@pytest.mark.parametrize("name", SHIPPED)
def test_the_cursor_is_like_no_step_of_a_ramp_and_not_like_the_ground(name, color, terminal):
    paint, theme = Paint(load(name), color), load(name)
    cursor = drawn_as(paint.cursor.bgcolor, terminal)
    ground = theme.chrome["background"] if paint.rich else "#000000" if theme.dark else "#ffffff"
    others = [*(step for ramp in theme.look(color).ramps.values() for step in ramp), ground]
    for other in (drawn_as(Color.parse(each), terminal) for each in others):
        assert math.dist(oklab(cursor), oklab(other)) >= 0.15, other
    assert contrast(drawn_as(paint.cursor.color, terminal), cursor) >= 4.5


def test_without_colour_the_cursor_is_reversed_which_no_step_is():
    paint = Paint(color="mono")
    steps = [paint.tint(level / 16) for level in range(17)] + [paint.calm_tint(step) for step in range(4)]
    assert paint.cursor.reverse and not any(style.reverse for style in steps)


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("color", ["truecolor", "16", "mono"])
async def test_textual_takes_a_theme(name, color):
    app = App()
    async with app.run_test():
        app.register_theme(textual_theme(load(name), color))
        app.theme = name
        assert app.current_theme.dark == load(name).dark


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('"#00005f"', '"#00005"', "ramps.heat"),
        ('base = "#d0d0d0"', 'base = "loud"', "styles.base"),
        ('base = "default"', "base = 3", "c16.styles.base"),
        ("[ramps]", "[rumps]", "[ramps]"),
        ('primary = "#00afaf"', "primary = 7", "theme.primary"),
        ('primary = "#00afaf"', 'primal = "#00afaf"', "theme.primal"),
        ("[theme]", "[theme", "cannot be read"),
    ],
)
def test_a_broken_file_is_answered_with_its_name_and_field(tmp_path, old, new, field):
    path = broken(tmp_path, old, new)
    with pytest.raises(UserError) as error:
        read(path)
    assert str(path) in str(error.value) and field in str(error.value)


def test_an_unknown_name_lists_the_known_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "themes", lambda: tmp_path)
    with pytest.raises(UserError, match=r"dark, high-contrast, light"):
        load("dusk")


def test_a_users_theme_is_found_and_goes_before_ours(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "themes", lambda: tmp_path)
    (tmp_path / "dark.toml").write_text(paths.theme_files()["light"].read_text())
    assert load("dark").dark is False
