"""Settings: what a file says, what is wrong in it, and where each value comes from."""

import pytest

from tui_entropy.cli.main import command
from tui_entropy.config.settings import SETTINGS, defaults_of_options, read_config
from tui_entropy.core import paths
from tui_entropy.core.errors import UserError
from tui_entropy.ui.keys.keymap import keymap, wrong_keys

RIGHT = """\
theme = "light"
tint = "surprisal"
tint_scale = "value"
unit = "nats"
model = "gemma"

[sampling]
temperature = 0.9
top_k = 10
banned = [1, 2]
order = "vllm"

[panes]
hidden = ["heads"]
rows = {"w2 h2 chart" = 3}

[keys]
"temperature.up" = "ctrl+up"
pause = "f5"
"""


@pytest.fixture(autouse=True)
def _own(own_folders, monkeypatch):
    monkeypatch.delenv("TUI_ENTROPY_THEME", raising=False)


def written(text: str):
    paths.config().parent.mkdir(parents=True, exist_ok=True)
    paths.config().write_text(text)
    return read_config()


def told(capsys, *arguments: str) -> tuple[dict[str, tuple[str, str]], str, int]:
    """Setting -> (value, where from), as `tui-entropy config` tells them; what is wrong; and the exit code."""
    capsys.readouterr()
    code = command(["config", *arguments]) or 0
    said = capsys.readouterr()
    rows = [line.split(maxsplit=2) if '"' not in line else _cells(line) for line in said.out.splitlines()[2:]]
    return {name: (value, where) for name, value, where in rows}, said.err, code


def _cells(line: str) -> list[str]:
    name, rest = line.split(maxsplit=1)
    value, where = rest.rsplit("  ", 1)
    return [name, value.strip(), where.strip()]


def test_without_a_file_everything_has_its_default(capsys):
    config = read_config()
    assert not config.values and not config.mistakes and defaults_of_options(config) == {}
    rows, wrong, code = told(capsys)
    assert rows.keys() == {setting.name for setting in SETTINGS} and {where for _, where in rows.values()} == {
        "default"
    }
    assert (wrong, code) == ("", 0)


def test_what_is_set_is_the_default_of_options(capsys):
    config = written(RIGHT)
    assert not config.mistakes and config.value("tint_scale") == "value"
    found = defaults_of_options(config)
    assert found["theme"] == "light" and found["temperature"] == "0.9" and found["banned"] == "1,2"
    rows, wrong, code = told(capsys)
    assert rows["sampling.temperature"] == ("0.9", f"{paths.config()}, line 8") and (wrong, code) == ("", 0)
    assert rows["theme"] == ('"light"', f"{paths.config()}, line 1") and rows["sampling.top_p"] == ("0.95", "default")
    assert rows["panes.rows"] == ('{"w2 h2 chart" = 3}', f"{paths.config()}, line 15")
    assert rows["keys.temperature.up"] == ('"ctrl+up"', f"{paths.config()}, line 18")


def test_an_option_goes_before_the_environment_and_that_before_the_file(capsys, monkeypatch):
    written(RIGHT)
    monkeypatch.setenv("TUI_ENTROPY_THEME", "high-contrast")
    rows, _, _ = told(capsys, "--temperature", "0.2")
    assert rows["theme"] == ('"high-contrast"', "environment TUI_ENTROPY_THEME")
    assert rows["sampling.temperature"] == ("0.2", "option --temperature")
    assert told(capsys, "--theme", "dark")[0]["theme"] == ('"dark"', "option --theme")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("theme = \n", r"is no TOML .*line 1.*mend that place"),
        ("# x\nthme = 'light'\n", r"line 2: thme is no setting: did you mean theme\?"),
        ("theme = 'lihgt'\n", r"line 1: theme is 'lihgt', which is not known: did you mean light\?"),
        ("[sampling]\ntop_p = 7\n", r"line 2: sampling.top_p cannot be had: top_p is 7.0 but must be above 0"),
        ("[sampling]\ntop-p = 1\n", r"line 2: sampling.top-p is no setting: did you mean top_p in \[sampling\]\?"),
        ("temperature = 1\n", r"line 1: temperature is no setting: did you mean temperature in \[sampling\]\?"),
        ("tint = 'entropi'\n", r"line 1: tint .* did you mean entropy\?"),
        ("unit = 3\n", r"line 1: unit is 3, which is not known: take one of bits, nats"),
        ("model = ''\n", r"line 1: model is '' and must be a word"),
        ("[panes]\nhidden = 'heads'\n", r"line 2: panes.hidden is 'heads' and must be a list"),
        ("panes = 3\n", r"line 1: panes is no setting"),
        ("[[keys]]\nx = 1\n", r"keys is no setting"),
    ],
)
def test_what_is_wrong_is_one_sentence_with_its_place_and_the_rest_holds(text, said, capsys):
    config = written(text)
    (sentence,) = config.mistakes
    assert "\n" not in sentence and str(paths.config()) in sentence
    with pytest.raises(UserError, match=said):
        raise UserError(sentence)
    rows, wrong, code = told(capsys)
    assert code == 3 and wrong.strip() == sentence and rows["theme"][0] == '"dark"'
    with pytest.raises(UserError, match=said):
        command(["run", "--headless", "--prompt", "x"])


def test_one_wrong_value_leaves_the_others():
    config = written(RIGHT.replace("0.9", "'hot'").replace("surprisal", "heat"))
    assert len(config.mistakes) == 2 and config.value("theme") == "light" and config.value("tint") == "entropy"
    assert "temperature" not in defaults_of_options(config) and defaults_of_options(config)["top_k"] == "10"


def test_keys_of_the_settings_go_before_those_of_the_older_file_and_wrong_ones_are_left_out(tmp_path):
    older = tmp_path / "keys.toml"
    older.write_text('pause = "p"\nunit = "f6"\n')
    config = written('[keys]\npause = "f5"\nquit = "f9"\npaus = "f8"\n')
    assert keymap(older, config) == {"pause": "f5", "unit": "f6", "quit": "f9,ctrl+q"}
    (sentence,) = wrong_keys(config)
    assert "line 4: 'paus' is no action that a key has: did you mean pause?" in sentence


def test_a_file_that_is_a_folder_or_no_text_is_told():
    paths.config().mkdir(parents=True)
    assert "cannot be read" in read_config().mistakes[0]
    paths.config().rmdir()
    paths.config().write_bytes(b"theme = '\xff'\n")
    assert "cannot be read" in read_config().mistakes[0]
