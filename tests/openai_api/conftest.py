"""One endpoint for all tests here."""

import endpoints
import pytest


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return endpoints.saved(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def served(model, tmp_path_factory):
    made = endpoints.Served(model, tmp_path_factory.mktemp("served"), "--api-key-env", "KEY", "--max-tokens", "9")
    yield made
    assert "Traceback" not in made.said
    assert "the engine has ended" in made.close()
