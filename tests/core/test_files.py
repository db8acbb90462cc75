"""Files: regular ones only, and nothing that another user put in the way is followed."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tui_entropy.core import files
from tui_entropy.core.errors import UserError


@pytest.fixture(params=["pipe", "socket", "folder", "device"])
def strange(request, tmp_path):
    """Something with a name that is no regular file; who opens the first of them waits for a writer for ever."""
    path = tmp_path / "strange"
    match request.param:
        case "pipe":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(os.fspath(path))
        case "folder":
            path.mkdir()
        case "device":
            return Path("/dev/zero")
    return path


def test_only_regular_files_are_opened_and_nothing_is_waited_for(strange):
    for act in (files.open_regular, files.bytes_of, files.text_of):
        with pytest.raises(OSError):
            act(strange)
    with pytest.raises(OSError):
        files.kept_open(strange, os.O_WRONLY)


def test_a_regular_file_is_read_through_a_link_too(tmp_path):
    (tmp_path / "file").write_text("text ä", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert files.text_of(tmp_path / "link") == "text ä"


def test_what_is_kept_is_for_this_user_alone_and_no_link_is_followed_to_it(tmp_path):
    before = os.umask(0)
    try:
        os.close(files.kept_open(tmp_path / "log", os.O_WRONLY | os.O_TRUNC))
    finally:
        os.umask(before)
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "planted").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError):
        files.kept_open(tmp_path / "planted", os.O_WRONLY | os.O_TRUNC)
    assert (tmp_path / "mine").read_text() == "precious"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files to others")
def test_what_belongs_to_another_user_is_not_taken_for_ours(tmp_path):
    (tmp_path / "log").write_text("")
    (tmp_path / "folder").mkdir(mode=0o700)
    for name in ("log", "folder"):
        os.chown(tmp_path / name, 12345, 12345)
    with pytest.raises(OSError):
        files.kept_open(tmp_path / "log", os.O_WRONLY)
    with pytest.raises(UserError, match="another user"):
        files.private(tmp_path / "folder")


def test_a_folder_of_ones_own_is_made_and_no_link_to_one_is_taken(tmp_path):
    assert files.private(tmp_path / "a" / "own").stat().st_mode & 0o777 == 0o700
    (tmp_path / "planted").symlink_to(tmp_path / "a" / "own")
    with pytest.raises(UserError, match="is a link"):
        files.private(tmp_path / "planted")
    with pytest.raises(UserError, match="cannot be made"):
        files.private(tmp_path / "a" / "own" / "x" / ("y" * 300))


LOADERS = {
    "vector": "from tui_entropy.engine.steering.control_vector import load; load(path)",
    "gguf": "from tui_entropy.engine.sources.gguf import GgufFile; GgufFile(path)",
    "trace": "from tui_entropy.trace.reader import Trace; Trace.open(path)",
    "theme": "from tui_entropy.ui.drawing.theme import read; read(path)",
    "keys": "from tui_entropy.ui.keys.keymap import keymap; keymap(path)",
    "model": "from tui_entropy.engine.loading.loader import load; from tui_entropy.records.model import ModelSpec\n"
    "(path.parent / 'config.json').write_text('{\"model_type\": \"llama\"}')\n"
    "load(ModelSpec(str(path.parent)), print)",
}


@pytest.mark.parametrize("kind", LOADERS)
def test_whoever_is_given_a_pipe_says_so_at_once(kind, tmp_path):
    (tmp_path / "m").mkdir()
    path = tmp_path / "m" / "model.safetensors"
    os.mkfifo(path)
    program = (
        "from pathlib import Path; from tui_entropy.core.errors import UserError; import sys\n"
        f"path = Path(sys.argv[1])\ntry:\n    {LOADERS[kind].replace(chr(10), chr(10) + '    ')}\n"
        "except UserError as said: print('said', said)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=240)
    assert done.stdout.startswith("said") and "regular file" in done.stdout, done.stderr


def test_a_name_that_no_file_can_have_is_of_none():
    with pytest.raises(FileNotFoundError):
        files.open_regular(Path("a\0b"))
