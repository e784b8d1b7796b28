"""Every Python block of the README and the docs runs, and so does every example; links resolve, lines are short."""

import pkgutil
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("docs", "src", "tests", "examples", "benchmarks")
PAGES = sorted(
    page
    for page in (*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md")))
    if "results" not in page.parts
)
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
STATUS = re.compile(
    r"^\*\*Status:\*\* (accepted|accepted, amended by \d+(?:, \d+)*(?: and \d+)?|superseded by \d+)\.$", re.MULTILINE
)
NAME = re.compile(r"`(dcao(?:_lab)?\.[\w.]+)`")
MAX_LINE = 120


def run(arguments: list[str], folder: Path) -> None:
    result = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("page", [p for p in PAGES if BLOCK.search(p.read_text())], ids=lambda page: page.name)
def test_the_code_blocks_of_a_page_run(page, tmp_path):
    script = "\n".join(BLOCK.findall(page.read_text()))
    run([sys.executable, "-c", script], tmp_path)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_runs(example, tmp_path):
    run([sys.executable, str(example)], tmp_path)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them: lower case, words joined by hyphens."""
    headings = HEADING.findall(FENCED.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def leads_somewhere(page: Path, link: str) -> bool:
    target, _, anchor = link.partition("#")
    there = page.parent / target if target else page
    return there.exists() and (not anchor or anchor in anchors(there))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = [link for link in LINK.findall(FENCED.sub("", page.read_text())) if "://" not in link]
    assert [link for link in links if not leads_somewhere(page, link)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_line_of_prose_is_long(page):
    lines = FENCED.sub("", page.read_text()).splitlines()
    assert [line for line in lines if len(line) > MAX_LINE and not line.startswith("|")] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_paragraph_within_a_list_is_indented_by_four(page):
    """Code hosts also take less, and Python-Markdown, which makes the site, would end the list there."""
    lines = FENCED.sub("", page.read_text()).splitlines()
    assert [line for before, line in pairwise(lines) if not before and re.match(r" {1,3}\S", line)] == []


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.name)
def test_a_decision_begins_with_its_status_and_the_index_has_the_same(page):
    title, blank, status = page.read_text().splitlines()[:3]
    found = STATUS.fullmatch(status)
    assert title.startswith("# ")
    assert blank == ""
    assert found is not None, f"{status!r} is no status line; see {STATUS.pattern}"
    rows = [
        line
        for line in (ROOT / "docs" / "index.md").read_text().splitlines()
        if f"({page.parent.name}/{page.name})" in line
    ]
    assert [row.split("|")[2].strip() for row in rows] == [found[1].removeprefix("accepted, ")]


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.name)
def test_a_decision_that_changes_another_one_exists_and_says_so(page):
    found = STATUS.search(page.read_text())
    assert found is not None
    for number in re.findall(r"\d+", found[1]):
        (other,) = (decision for decision in DECISIONS if decision.name.startswith(f"{int(number):04d}-"))
        assert f"({page.name})" in other.read_text()


@pytest.mark.parametrize("name", sorted(set(NAME.findall((ROOT / "docs" / "glossary.md").read_text()))))
def test_a_name_in_the_glossary_exists(name):
    assert pkgutil.resolve_name(name) is not None


def test_the_map_of_the_library_has_every_file_and_folder():
    library, contributing = ROOT / "src" / "dcao", (ROOT / "CONTRIBUTING.md").read_text()
    rooms = [f"{folder.parent.name}/" for folder in library.glob("*/__init__.py")]
    files = [file.name for file in library.glob("*.py") if file.name != "__init__.py"]
    probing = [file.name for file in (library / "probing").glob("*.py") if file.name != "__init__.py"]
    assert [name for name in (*rooms, *files, *probing) if f"`{name}`" not in contributing] == []


def test_the_index_leads_to_every_page():
    index = (ROOT / "docs" / "index.md").read_text()
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if page != "index.md" and f"({page})" not in index] == []
