"""How long a person waits for the first token: from the command, and from a second prompt."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from time import perf_counter

from engine import generate, loaded_model
from figures import Figure, Settings, in_turns, ratio, spread
from screen import COMMAND, inspector, state
from terminal import Terminal, environment

from tui_entropy.engine.models.loaded import Loaded

PROMPT = "Why is the sky blue?"
SHOWN = re.compile(r"step \d+ of \d+")
PLAIN = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
source, device, dtype, prompt = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(source)
model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype).to(device)
asked = [{"role": "user", "content": prompt}]
ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
out = model.generate(**ids.to(device), max_new_tokens=1, do_sample=False)
print(tokenizer.decode(out[0, -1:]), flush=True)
"""
"""What somebody writes who only wants text."""


def first_token(settings: Settings) -> Iterator[Figure]:
    """Time to the first token: cold, from a command (its files are in memory); warm, from Enter in the prompt box."""
    loaded = loaded_model(settings)  # so that weights and libraries are in the page cache for everyone
    yield from _cold(loaded, settings)
    yield from _warm(loaded, settings)


def _cold(loaded: Loaded, settings: Settings) -> Iterator[Figure]:
    model = ["--model", settings.model, "--device", settings.device, "--prompt", PROMPT, "--temperature", "0"]
    source, device, dtype = loaded.model.name_or_path, loaded.card.device, loaded.card.dtype
    contestants = {
        "on the screen": partial(_shown, settings),
        "headless": partial(_said, [*COMMAND, "run", "--headless", *model]),
        "script with generate": partial(_said, [sys.executable, "-c", PLAIN, source, device, dtype, PROMPT]),
    }
    times = in_turns(contestants, 1 if settings.quick else max(settings.rounds, 3))
    plain = times.pop("script with generate")
    for name, mine in times.items():
        yield Figure(f"first token, cold, {name}", statistics.median(mine), "s", "", spread(mine, "s"))
        detail = f"a script with generate: {spread(plain, 's')}"
        yield Figure(f"first token, cold, {name} / script with generate", ratio(mine, plain), "x", "<=", detail)


def _shown(settings: Settings) -> float:
    """Seconds from the start of the process until a step is on the screen."""
    with inspector(settings, flags=["--prompt", PROMPT, "--temperature", "0"]) as terminal:
        return terminal.wait_for(SHOWN, 120) - terminal.started


def _said(command: Sequence[str]) -> float:
    """Seconds until the first byte on stdout."""
    began, env = perf_counter(), environment({"XDG_STATE_HOME": state()})
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env) as process:
        assert process.stdout is not None and process.stdout.read(1), f"{command[0]} said nothing"
        taken = perf_counter() - began
        process.kill()
    return taken


def _warm(loaded: Loaded, settings: Settings) -> Iterator[Figure]:
    prompts = [f"{PROMPT} {n}" for n in range(4 if settings.quick else 13)]
    chat = loaded.card.has_chat_template
    ids = {prompt: loaded.tokenizer.encode(prompt, None, chat=chat) for prompt in prompts}
    with inspector(settings, max_tokens=1, flags=["--prompt", "Hello.", "--temperature", "0"]) as terminal:
        terminal.wait_for("ended", 120)
        rounds = [
            in_turns(
                {"ours": partial(_entered, terminal, prompt), "generate": partial(_generated, loaded, ids[prompt])}, 1
            )
            for prompt in prompts
        ][1:]  # the first one warms up
    mine, plain = ([each[name][0] for each in rounds] for name in ("ours", "generate"))
    yield Figure("first token, warm, Enter to the screen", statistics.median(mine), "ms", "", spread(mine, "ms"))
    detail = f"generate {spread(plain, 'ms')}, prompt of {len(ids[PROMPT + ' 0'])}"
    yield Figure("first token, warm, Enter to the screen / generate", ratio(mine, plain), "x", "<=", detail)


def _entered(terminal: Terminal, prompt: str) -> float:
    """Milliseconds from Enter until the token of that prompt is on the screen. No other run shows the same prompt."""
    terminal.press("i")
    terminal.wait_for("new prompt")
    terminal.press(prompt)
    terminal.settle()
    began = terminal.press("enter")
    read = re.compile(rf"^you +{re.escape(prompt)}", re.MULTILINE)
    shown = terminal.wait_for(lambda text: "new prompt" not in text and read.search(text) and SHOWN.search(text))
    terminal.wait_for("ended")
    terminal.settle()
    return 1e3 * (shown - began)


def _generated(loaded: Loaded, ids: list[int]) -> float:
    watch = generate(loaded, ids, 1)
    return 1e3 * (watch.times[-1] - watch.times[0])
