"""No test leaves an engine behind: one whose screen is gone ends at once, unless the test says otherwise."""

import gc
import os
import tempfile

import hypothesis
import pytest
from fork_server import ForkServer
from live_servers import is_set_up, running
from preloaded import Preloaded

os.environ["TUI_ENTROPY_KEEP"] = "0"
hypothesis.settings.register_profile("ours", deadline=None)  # a machine that does other work is no fault
hypothesis.settings.load_profile("ours")

LONGEST = (
    "test_probe", "test_perplexity_and_analyze", "test_replay_and_open", "test_revisions", "test_lens_fit",
    "test_compare", "test_calibrate", "test_run_on_a_screen", "test_pictures_and_exports", "test_every_key",
    "test_families", "test_fuzz", "test_imports", "test_odd_input", "test_nothing_raw", "test_vector_files",
    "test_planted_in_functions", "test_planted_in_numbers", "test_doctor", "test_leaving", "test_driver",
    "test_end_to_end", "test_hostile_engine",
)  # fmt: skip
"""Files that take minutes. Where several processes share the tests they begin with these, and end together."""


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What is imported for the tests stays, so nobody looks through it for what could go."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items):
    if "PYTEST_XDIST_WORKER" in os.environ:
        order = {name: place for place, name in enumerate(LONGEST)}
        items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture
def own_folders(tmp_path, monkeypatch):
    """Folders of its own for state, logs and sockets."""
    for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    with tempfile.TemporaryDirectory() as short:  # a socket's path may not be long
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)
        yield


@pytest.fixture(scope="session")
def preloaded():
    """A process that has imported torch, of which commands and engines are forks."""
    with Preloaded() as process:
        yield process


@pytest.fixture(scope="session")
def commands(tmp_path_factory, preloaded):
    """Runs commands as processes, in a folder and with folders of its own."""
    names = ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
    folders = {name: str(tmp_path_factory.mktemp(name)) for name in names}
    with tempfile.TemporaryDirectory() as short:
        env = {**folders, "XDG_RUNTIME_DIR": short, "COLUMNS": "100", "HF_HUB_OFFLINE": "1"}
        with ForkServer(preloaded, env, tmp_path_factory.mktemp("work")) as server:
            yield server


@pytest.fixture(scope="session")
def llamacpp():
    """llama.cpp's server with the default model in Q4_1."""
    with running("llamacpp") as server:
        yield server


@pytest.fixture(scope="session")
def llamacpp_f32():
    """The same with the weights as the model's folder has them, in float32."""
    with running("llamacpp-f32") as server:
        yield server


def run_if_set_up(name, environment):
    if not is_set_up(environment):
        pytest.skip(f"there is no {environment}: scripts/servers setup {environment} makes it, in minutes")
    with running(name) as server:
        yield server


@pytest.fixture(scope="module")  # 4 GB, so that it goes before the next one comes
def vllm():
    """vLLM with vllm-lens, the default model in float32, all log-probabilities."""
    yield from run_if_set_up("vllm", "vllm")


@pytest.fixture(scope="module")
def vllm_tp2():
    """vLLM on two ranks, with a small random model."""
    yield from run_if_set_up("vllm-tp2", "vllm")


@pytest.fixture(scope="session")
def transformers_server():
    """`transformers serve`, which gives no log-probabilities."""
    yield from run_if_set_up("transformers", "transformers")
