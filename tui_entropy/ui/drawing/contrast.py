"""Contrast: which ink can be read on a ground, by WCAG 2, with the sixteen colours as terminals draw them."""

from __future__ import annotations

from functools import lru_cache

from rich.color import Color, ColorType

PALETTES = {
    "xterm": "000000 cd0000 00cd00 cdcd00 0000ee cd00cd 00cdcd e5e5e5 "
    "7f7f7f ff0000 00ff00 ffff00 5c5cff ff00ff 00ffff ffffff",
    "vga": "000000 aa0000 00aa00 aa5500 0000aa aa00aa 00aaaa aaaaaa "
    "555555 ff5555 55ff55 ffff55 5555ff ff55ff 55ffff ffffff",
    "windows": "0c0c0c c50f1f 13a10e c19c00 0037da 881798 3a96dd cccccc "
    "767676 e74856 16c60c f9f1a5 3b78ff b4009e 61d6d6 f2f2f2",
    "tango": "2e3436 cc0000 4e9a06 c4a000 3465a4 75507b 06989a d3d7cf "
    "555753 ef2929 8ae234 fce94f 729fcf ad7fa8 34e2e2 eeeeec",
    "gnome": "171421 c01c28 26a269 a2734c 12488b a347ba 2aa1b3 d0cfcc "
    "5e5c64 f66151 33da7a e9ad0c 2a7bde c061cb 33c7de ffffff",
    "macos": "000000 990000 00a600 999900 0000b2 b200b2 00a6b2 bfbfbf "
    "666666 e50000 00d900 e5e500 0000ff e500e5 00e5e5 e5e5e5",
    "putty": "000000 bb0000 00bb00 bbbb00 0000bb bb00bb 00bbbb bbbbbb "
    "555555 ff5555 55ff55 ffff55 5555ff ff55ff 55ffff ffffff",
}
"""What terminals draw for colours 0 to 15 unless they are told otherwise."""

RGB = tuple[int, int, int]


def luminance(color: RGB) -> float:
    """Relative luminance, 0 to 1. Source: WCAG 2.2."""
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (c / 255 for c in color)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: RGB, other: RGB) -> float:
    """1 for none to 21 for black on white. Source: WCAG 2.2."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def seen_as(color: Color) -> list[RGB]:
    """The colours that one may look like: one of the sixteen depends on the terminal."""
    if color.type is ColorType.STANDARD and color.number is not None:
        return [_hex(palette.split()[color.number]) for palette in PALETTES.values()]
    return [(*color.get_truecolor(),)]


def least_contrast(ink: Color, ground: Color) -> float:
    """In the terminal where the two are most alike."""
    inks, grounds = seen_as(ink), seen_as(ground)
    n = max(len(inks), len(grounds))
    pairs = zip(inks * (n // len(inks)), grounds * (n // len(grounds)), strict=True)
    return min(contrast(a, b) for a, b in pairs)


@lru_cache(256)
def ink_on(ground: Color) -> Color:
    """Black or white, whichever can be read better on it. Of the sixteen where the ground is one of them."""
    names = ("black", "bright_white") if ground.type is ColorType.STANDARD else ("#000000", "#ffffff")
    return max((Color.parse(name) for name in names), key=lambda ink: least_contrast(ink, ground))


def _hex(digits: str) -> RGB:
    return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)
