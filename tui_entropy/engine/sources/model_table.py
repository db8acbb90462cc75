"""The table that `tui-entropy models` prints: models on this machine, and those that can be fetched."""

from __future__ import annotations

from tui_entropy.core import text_table
from tui_entropy.engine.sources.catalogue import CATALOGUE, cached


def listing() -> str:
    """Two tables, ending in a newline. Asks no network."""
    from tui_entropy.engine.sources.hub import cached_models

    models = cached()
    here = [(model.path.name, _size(model.size), model.provenance.note, str(model.path)) for model in models]
    here += [(repo, _size(size), "from the hub", str(path)) for repo, path, size in cached_models()]
    names = {model.path.name for model in models}
    there = [
        (model.name, _size(model.download), model.licence, f"{model.title}, `tui-entropy fetch {model.name}`")
        for model in CATALOGUE.values()
        if model.name not in names
    ]
    parts = [
        _table(
            "On this machine (--model takes the path, or the name of what was fetched):",
            here or [("nothing yet", "", "", "")],
        )
    ]
    if there:
        parts.append(_table("To be fetched:", there))
    return "\n".join(parts)


def _table(heading: str, rows: list[tuple[str, str, str, str]]) -> str:
    return "\n".join([heading, *(f"  {line}" for line in text_table.lines(rows))]) + "\n"


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.0f} MB" if n_bytes < 1e9 else f"{n_bytes / 1e9:.1f} GB"
