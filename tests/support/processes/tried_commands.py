"""Every command line that the tests of commands run, and those that several of their files share."""

from __future__ import annotations

import pytest

from tui_entropy.core import paths

LINES: list[str] = []
"""Every command that such a test runs: `tests/cli/commands/test_nothing_left_out.py` asks what is not among them."""


def runs(*lines: str) -> pytest.MarkDecorator:
    """The test is run once with each of these lines, and runs it."""
    LINES.extend(lines)
    return pytest.mark.parametrize("line", lines)


MODEL = paths.models() / "smollm2"
TRUSTED = "--model ./named --trust-remote-code --graph"

RECORDING = (
    'tui-entropy run --headless --trace story.tui -p "Tell me a long story about a lighthouse." --max-tokens 220 '
    "--banned 2"  # the end of the text
)

TURNED = (
    "--temperature 0.9 --top-k 30 --top-p 0.9 --min-p 0.01 --typical-p 0.97 --top-n-sigma 3 --repetition-penalty 1.1 "
    "--frequency-penalty 0.1 --presence-penalty 0.2 --penalty-last-n 64 --dynatemp-range 0.2 --dynatemp-exponent 1.5 "
    "--dry-multiplier 0.5 --dry-base 1.5 --dry-allowed-length 3 --dry-breakers '\\n,:' --xtc-probability 0.3 "
    "--xtc-threshold 0.2 --mirostat-tau 4 --mirostat-eta 0.2 --adaptive own --clarifier ' Wait' --banned 7,9 "
    "--order llama.cpp --seed 11 --candidates 12 --lens 4 --lens-steps 2 --lens-file my-lens "
)
"""Every knob, from its default."""

EVERY_KNOB = (
    "tui-entropy run --headless --jsonl --no-trace --max-tokens 6 --system 'Be brief.' --chat --prompt-scores "
    f"{TURNED} -p Hello --vector happy.gguf:0.5 --break 'step > 3' --watch ' Yes' --device cpu --dtype float32 "
    "--no-trust-remote-code --no-graph --model smollm2 --products columns"
)

SERVING = 'tui-entropy serve --headless -p "..."'
LINES.extend([RECORDING, SERVING])  # which fixtures run

NOTES = "The capital of France is Paris. The capital of Italy is Rome.\nThe capital of Spain is Berlin.\n"

WORDS = "The lighthouse keeper found a letter in a bottle, and read it by the light of the lamp. "

FRUIT = {"question": "Which of these is a fruit?", "choices": ["a chair", "an apple", "a train"], "answer": 1}
