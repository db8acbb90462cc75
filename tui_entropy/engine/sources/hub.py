"""Models from the Hugging Face hub, or from what it left in its cache. No network is waited for that is not there."""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from threading import Thread

from tui_entropy.core.errors import UserError
from tui_entropy.engine.sources.download import download_with_progress
from tui_entropy.records.events import Progress

PROBE_TIMEOUT_S = 2.0
SMALL_FILES = ["*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken"]
IGNORED = ["*/*", "consolidated*"]
"""Copies of the weights for other programs."""
DOWNLOAD = (
    "import json, sys; from huggingface_hub import snapshot_download; snapshot_download(**json.loads(sys.argv[1]))"
)


def reachable() -> bool:
    """Whether the hub answers, found out in two seconds at most. HF_HUB_OFFLINE=1 says no."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    answers: list[bool] = []

    def probe() -> None:
        try:
            request = urllib.request.Request(_endpoint(), method="HEAD")
            urllib.request.urlopen(request, timeout=PROBE_TIMEOUT_S).close()
        except urllib.error.HTTPError:
            pass  # an answer, if not a kind one
        except OSError:
            return
        answers.append(True)

    # Looking a name up cannot be given a time-out, so it is left behind instead.
    thread = Thread(target=probe, daemon=True)
    thread.start()
    thread.join(PROBE_TIMEOUT_S)
    return bool(answers)


def snapshot(
    repo: str,
    revision: str | None,
    with_code: bool,
    report: Callable[[Progress], None],
    check_room: Callable[[int], None],
) -> Path:
    """The folder of a model in the hub's cache, downloaded where anything is missing.

    `check_room` is told the bytes of the weights before they are downloaded and may raise. Raises UserError for a
    model that is gated, missing, or neither here nor to be had.
    """
    if not reachable():
        if folder := cached_snapshot(repo, revision):
            return folder
        raise UserError(
            f"{repo} is not in the hub's cache on this machine and {_endpoint()} cannot be reached; connect to it, "
            "or pass a folder, a GGUF file, or a model that `tui-entropy models` lists"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    report(Progress(f"looking {repo} up on the hub"))
    try:
        plan = snapshot_download(repo, revision=revision, dry_run=True, ignore_patterns=IGNORED)
    except (HfHubHTTPError, OSError, ValueError) as error:
        if folder := cached_snapshot(repo, revision):
            return folder
        raise _explained(repo, revision, error) from error
    weights = [file for file in plan if file.filename.endswith(".safetensors")]
    weights = weights or [file for file in plan if file.filename.endswith(".bin")]
    if not weights:
        raise UserError(f"{repo} holds no safetensors weights; download one of its other files and pass its path")
    check_room(sum(file.file_size or 0 for file in weights))
    patterns = [*SMALL_FILES, *(["*.py"] if with_code else []), *(file.filename for file in weights)]
    n_bytes = sum(file.file_size or 0 for file in weights if file.will_download)
    return _downloaded(repo, revision, patterns, n_bytes, report)


def cached_snapshot(repo: str, revision: str | None) -> Path | None:
    """The snapshot that the hub's cache holds whole, without asking the network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        patterns = [*SMALL_FILES, "*.safetensors"]
        return Path(
            snapshot_download(
                repo, revision=revision, local_files_only=True, allow_patterns=patterns, ignore_patterns=IGNORED
            )
        )
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def cached_models() -> list[tuple[str, Path, int]]:
    """(hub id, folder, bytes) of every model in the hub's cache."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return []
    return sorted((repo.repo_id, repo.repo_path, repo.size_on_disk) for repo in repos if repo.repo_type == "model")


def _downloaded(
    repo: str, revision: str | None, patterns: list[str], n_bytes: int, report: Callable[[Progress], None]
) -> Path:
    """In a process of its own, since the hub's threads cannot be interrupted. n_bytes: of files that are missing."""
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    what = {"repo_id": repo, "revision": revision, "allow_patterns": patterns, "ignore_patterns": IGNORED}
    command = [sys.executable, "-c", DOWNLOAD, json.dumps({**what, "cache_dir": str(cache)})]
    folder = cache / f"models--{repo.replace('/', '--')}"
    reason = download_with_progress(command, folder, n_bytes, f"downloading {repo}", report)
    if reason is None and (snapshot := cached_snapshot(repo, revision)):
        return snapshot
    raise UserError(f"{repo} could not be downloaded ({reason or 'it is not whole'}); start again to go on with it")


def _explained(repo: str, revision: str | None, error: Exception) -> UserError:
    from huggingface_hub import errors

    cause = error.__cause__ if isinstance(error, errors.DryRunError) and error.__cause__ else error
    page = f"{_endpoint()}/{repo}"
    match cause:
        case errors.GatedRepoError():
            return UserError(
                f"{repo} is gated: accept its terms at {page}, log in with `hf auth login`, and start again"
            )
        case errors.RevisionNotFoundError():
            return UserError(f"{repo} has no revision {revision!r}; {page}/tree/main lists those it has")
        case errors.RepositoryNotFoundError():
            return UserError(
                f"there is no model {repo} at {_endpoint()} that you may see; check the name, or log in with "
                "`hf auth login` if it is private"
            )
        case errors.HFValidationError():
            return UserError(f"{repo!r} is neither a file, a folder nor a hub id; pass one of these")
    return UserError(f"{repo} could not be had from {_endpoint()} ({_first_line(cause)}); try again later")


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
