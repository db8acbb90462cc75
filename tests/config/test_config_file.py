"""The file of settings: one value is changed, and whatever else a person wrote there stays."""

import os
import threading
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_entropy.config.file import changed, keep, literal, places
from tui_entropy.core.errors import UserError

MINE = """\
# my settings
theme = "light"   # at day
odd = [ # not known to the program
  1,
  2, # two
]

# how it is drawn from
[sampling]
temperature = 0.9
"top_p" = 0.5

[keys]
"temperature.up" = "ctrl+up"
"""


@pytest.fixture(autouse=True)
def _own(own_folders):
    return


def test_a_value_is_replaced_and_all_else_stays_letter_by_letter():
    assert changed(MINE, "theme", "dark") == MINE.replace('"light"', '"dark"')
    assert changed(MINE, "sampling.temperature", 1.25) == MINE.replace("0.9", "1.25")
    assert changed(MINE, "sampling.top_p", 1.0) == MINE.replace("0.5", "1.0")
    assert changed(MINE, "odd", 3) == MINE.replace("[ # not known to the program\n  1,\n  2, # two\n]", "3")


def test_what_was_not_there_is_added_where_it_belongs():
    after = changed(MINE, "unit", "nats")
    assert after == MINE.replace("]\n\n# how", ']\nunit = "nats"\n\n# how')
    after = changed(MINE, "panes.rows", {"w2 h2 chart": 3})
    assert after == MINE + '\n[panes]\nrows = {"w2 h2 chart" = 3}\n'
    assert changed(after, "panes.hidden", ["heads"]).endswith(
        '[panes]\nhidden = ["heads"]\nrows = {"w2 h2 chart" = 3}\n'
    )
    assert changed("", "unit", "nats") == 'unit = "nats"\n'
    assert (
        changed("# mine\n[sampling]\nseed = 1\n", "unit", "nats") == '# mine\nunit = "nats"\n[sampling]\nseed = 1\n'
    )


@pytest.mark.parametrize(
    "text",
    ['x = """\ntheme = "a"\n"""\n', 'x = """\n[sampling]\n"""\n', "[[sampling]]\na = 1\n", "sampling = {a = 1}\n"],
)
def test_a_file_that_lines_do_not_tell_is_left_alone_or_changed_rightly(text):
    for name, value in (("theme", "dark"), ("sampling.top_p", 0.5)):
        try:
            after = tomllib.loads(changed(text, name, value))
        except UserError as refused:
            assert "yourself" in str(refused)
        else:
            table, _, key = name.rpartition(".")
            assert (after[table] if table else after)[key] == value and after["x" if "x" in text else "sampling"]


NAMES = st.sampled_from(["theme", "unit", "sampling.top_p", "panes.rows", "panes.hidden", "other.deep"])
VALUES = st.recursive(
    st.booleans() | st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6) | st.text("ab #\"'\\=[]\té東", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab .#"', max_size=4), inner, max_size=3),
    max_leaves=4,
)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=8))
def test_whatever_is_set_is_read_again_and_nothing_else_changes(changes):
    text, expected = MINE, tomllib.loads(MINE)
    for name, value in changes:
        text = changed(text, name, value)
        table, _, key = name.rpartition(".")
        (expected.setdefault(table, {}) if table else expected)[key] = value
        assert tomllib.loads(text) == expected and tomllib.loads(f"x = {literal(value)}") == {"x": value}
    assert all(line in text for line in ("# my settings", "# how it is drawn from", '"temperature.up" = "ctrl+up"'))


def test_places_are_lines():
    assert places(MINE)["theme"] == 1 and places(MINE)["sampling.top_p"] == 10
    assert places(MINE)["keys.temperature.up"] == 13


def test_it_is_begun_replaced_through_a_link_and_keeps_its_mode(tmp_path):
    path, target = tmp_path / "c" / "config.toml", tmp_path / "dotfiles.toml"
    keep(path, {"theme": "light"})
    assert path.read_text().startswith("# Settings") and path.read_text().endswith('\ntheme = "light"\n')
    target.write_text(MINE)
    target.chmod(0o644)
    path.unlink()
    path.symlink_to(target)
    keep(path, {"theme": "dark", "unit": "nats"})
    assert path.is_symlink() and tomllib.loads(target.read_text())["unit"] == "nats"
    assert target.stat().st_mode & 0o777 == 0o644 and os.listdir(path.parent) == ["config.toml"]


def test_a_broken_file_is_not_written_to(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("theme = \n")
    with pytest.raises(UserError, match="line 1"):
        keep(path, {"theme": "dark"})
    assert path.read_text() == "theme = \n"


def _keep_many(path, name):
    for n in range(40):
        keep(path, {name: n})


def test_two_programs_at_once_do_not_tear_it_nor_lose_what_the_other_set(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(MINE)
    both = [threading.Thread(target=_keep_many, args=(path, name)) for name in ("a", "sampling.b")]
    for one in both:
        one.start()
    while any(one.is_alive() for one in both):
        tomllib.loads(path.read_text())
    said = tomllib.loads(path.read_text())
    assert said["a"] == said["sampling"]["b"] == 39 and said["theme"] == "light"
