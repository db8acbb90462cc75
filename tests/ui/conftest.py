"""Every test of the screen has its own folders for state, logs and sockets."""

import tempfile

import pytest


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    with tempfile.TemporaryDirectory() as short:  # a socket's path may not be long
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)
        yield
