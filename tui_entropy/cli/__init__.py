"""The commands. The only room that knows both engine and screen, and it imports them late."""

from tui_entropy.cli import config, engines, models, probes, recordings, texts, writing
from tui_entropy.cli.app import EXIT_CODES, app
from tui_entropy.cli.groups import with_shared_options
from tui_entropy.cli.main import main
from tui_entropy.cli.options import break_options, prepare_engine, prompt_option, trace_path, vector_option

COMMANDS = writing, engines, probes, texts, recordings, models, config
"""The modules that add commands to `app`."""

__all__ = [
    "COMMANDS",
    "EXIT_CODES",
    "app",
    "break_options",
    "main",
    "prepare_engine",
    "prompt_option",
    "trace_path",
    "vector_option",
    "with_shared_options",
]
