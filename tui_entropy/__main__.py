"""The start of the program."""

import gc
from typing import NoReturn


def main() -> NoReturn:
    """The command. Until the screen is up nothing is garbage, and collecting would only delay the first paint."""
    gc.disable()
    from tui_entropy import cli
    from tui_entropy.core import streams

    streams.guard()
    cli.main()


if __name__ == "__main__":
    main()
