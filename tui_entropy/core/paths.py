"""The places where things are kept, each in the user's own folder of its kind."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import platformdirs

APP = "tui-entropy"


def models() -> Path:
    """Weights that were fetched and converted."""
    return Path(platformdirs.user_cache_dir(APP)) / "models"


def logs() -> Path:
    """The folder of what the engine and its libraries say."""
    return Path(platformdirs.user_log_dir(APP))


def sockets() -> Path:
    """Sockets of running engines. Short, since a socket's path may be no longer than about 100 bytes."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / APP if runtime else Path(tempfile.gettempdir()) / f"{APP}-{os.getuid()}"


def themes() -> Path:
    """The user's own theme files."""
    return Path(platformdirs.user_config_dir(APP)) / "themes"


def shipped_themes() -> Path:
    """Inside the package where it is installed, at the top of a source checkout otherwise."""
    package = Path(__file__).parents[1]
    installed = package / "themes"
    return installed if installed.is_dir() else package.parent / "themes"


def theme_files() -> dict[str, Path]:
    """Theme name -> file; a user's file comes before one of ours of the same name."""
    files = [path for folder in (shipped_themes(), themes()) for path in sorted(folder.glob("*.toml"))]
    return {path.stem: path for path in files}


def config() -> Path:
    """The user's settings."""
    return Path(platformdirs.user_config_dir(APP)) / "config.toml"


def keymap() -> Path:
    """The user's own keys: lines of `id = "keys"`."""
    return Path(platformdirs.user_config_dir(APP)) / "keys.toml"


def state() -> Path:
    """The folder of what the program remembers, such as the history of prompts."""
    return Path(platformdirs.user_state_dir(APP))


def traces() -> Path:
    """Recorded sessions."""
    return state() / "traces"
