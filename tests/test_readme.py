"""The README says what the program does."""

import runpy

from places import ROOT


def test_tables_of_keys_and_numbers_are_those_of_the_program():
    """`scripts/readme` writes them anew."""
    script = runpy.run_path(str(ROOT / "scripts" / "readme"))
    assert set(script["TABLES"]) == {ROOT / "README.md", ROOT / "docs" / "trace.md"}
    for document in script["TABLES"]:
        text = document.read_text(encoding="utf-8")
        assert script["written"](text, document) == text, document


def test_its_picture_and_links_are_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    linked = [part.split(")")[0] for part in text.split("](")[1:]]
    assert linked and all((ROOT / link).exists() for link in linked)
