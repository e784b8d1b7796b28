"""The table of the theory names every check, with a status, and no check that is not there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INDEX = (ROOT / "docs" / "theory" / "index.md").read_text()
CHECKS = {path.name: path.read_text() for path in Path(__file__).parent.glob("test_*.py") if path != Path(__file__)}
STATUSES = ("proved", "proved with a borrowed result", "measured")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in INDEX.splitlines()
    if line.startswith("| ") and not line.startswith("| claim")
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_claim_has_a_proof_a_check_that_exists_and_a_status(row):
    _claim, proof, check, status = row
    assert "](" in proof or status == "measured"
    names = re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", check)
    assert names, f"{check!r} names no file of tests/theory"
    for file, test in names:
        assert file in CHECKS
        assert not test or f"def {test}(" in CHECKS[file]
    assert status in STATUSES


def test_every_check_is_in_the_table():
    assert [file for file in CHECKS if f"`{file}" not in INDEX] == []


def test_every_page_of_theorems_is_in_the_table():
    pages = (path.name for path in (ROOT / "docs" / "theory").glob("*.md"))
    assert [page for page in pages if page not in ("index.md", *WITHOUT_THEOREMS) and f"({page}" not in INDEX] == []


WITHOUT_THEOREMS = ("stability-number.md",)
