"""No test leaves an engine behind: one whose screen is gone ends at once, unless the test says otherwise."""

import os
import tempfile

import pytest

os.environ["TUI_ENTROPY_KEEP"] = "0"


@pytest.fixture
def own_folders(tmp_path, monkeypatch):
    """Folders of its own for state, logs and sockets."""
    for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    with tempfile.TemporaryDirectory() as short:  # a socket's path may not be long
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)
        yield
