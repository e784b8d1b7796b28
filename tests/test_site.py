"""The documentation site: it builds strictly, leaves nothing out, and asks nobody outside for anything."""

import importlib
import inspect
import json
import os
import pkgutil
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from helpers import browser as browsers

ROOT = Path(__file__).parents[1]
MISSING = browsers.what_is_missing()
DOCS = ROOT / "docs"
PAGES = sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))
FORMULA = re.compile(r"^```math\n(.*?)^```", re.DOTALL | re.MULTILINE)
PUBLIC = ("dcao", "dcao.operators", "dcao.policies", "dcao.schedules")
IMPORTED = re.compile(r"^from (dcao\.integrations\.\w+) import (.+)$", re.MULTILINE)
FETCHED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site; a link, an anchor, a page or a name of the reference that is missing is an error of mkdocs."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def built(site, page):
    return (site / page).with_suffix(".html").read_text()


class Elements(HTMLParser):
    """The elements of a page, as pairs of a tag and its attributes."""

    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def links_of_navigation(html):
    found = [attributes for tag, attributes in Elements(html).found if tag == "a"]
    return [link["href"] for link in found if "md-nav__link" in link.get("class", "").split()]


def test_every_page_is_in_the_navigation(site):
    wanted = {page.replace(".md", ".html") for page in PAGES}
    assert wanted - set(links_of_navigation(built(site, "readme.md"))) == set()


@pytest.mark.parametrize("folder", ["decisions", "theory"])
def test_pages_of_a_folder_are_in_the_order_of_the_index(site, folder):
    links = links_of_navigation(built(site, "readme.md"))
    in_index = re.findall(rf"\(({folder}/[\w-]+)\.md\)", (DOCS / "index.md").read_text())
    assert [link for link in links if link.startswith(f"{folder}/")] == [f"{page}.html" for page in in_index]


def public_names():
    """All that the docs call public: what ``__all__`` of a public module has, and what they import for a trainer."""
    for module in PUBLIC:
        names = [f"{module}:{name}" for name in importlib.import_module(module).__all__]
        yield from (name for name in names if not inspect.ismodule(pkgutil.resolve_name(name)))
    for page in PAGES:
        for module, names in IMPORTED.findall((DOCS / page).read_text()):
            yield from (f"{module}:{name.strip()}" for name in names.split(","))


def test_the_reference_has_every_public_name(site):
    """An object that has two public names, such as ``dcao.Decision`` and ``dcao.policies.Decision``, has one entry."""
    entries = {
        ":".join(attributes["id"].rsplit(".", 1))
        for page in (site / "reference").glob("*.html")
        for tag, attributes in Elements(page.read_text()).found
        if tag == "h2" and "id" in attributes
    }
    documented = {id(pkgutil.resolve_name(entry)) for entry in entries}
    wanted = set(public_names())
    assert len(wanted) > 60
    assert {name for name in wanted if id(pkgutil.resolve_name(name)) not in documented} == set()
    assert {name for name in wanted if name.startswith("dcao:")} <= entries


def test_examples_in_the_reference_are_code(site):
    html = "".join(page.read_text() for page in (site / "reference").glob("*.html"))
    assert "&gt;&gt;&gt;" in html
    assert "<blockquote>" not in html
    assert not re.search(r":(class|func|meth|attr|mod|data):<code>", html)


def test_no_page_asks_anybody_outside_for_anything(site):
    asked = [
        (page.name, attributes[FETCHED[tag]])
        for page in site.rglob("*.html")
        for tag, attributes in Elements(page.read_text()).found
        if tag in FETCHED and str(attributes.get(FETCHED[tag])).startswith(("http:", "https:", "//"))
    ]
    assert asked == []
    styles = "".join(sheet.read_text() for sheet in site.rglob("*.css"))
    assert not re.search(r"@import|url\([\"']?(https?:)?//", styles)


@pytest.mark.parametrize("page", [page for page in PAGES if FORMULA.search((DOCS / page).read_text())])
def test_formulas_are_mathml(site, page):
    formulas = re.findall(r"<math .*?</math>", built(site, page), re.DOTALL)
    sources = FORMULA.findall((DOCS / page).read_text())
    assert len(formulas) == len(sources)
    for formula, source in zip(formulas, sources, strict=True):
        assert "\\" not in formula  # a command that was not understood
        assert formula.count("<mtr>") == (source.count(r"\\") + 1 if "array" in source else 0)


def test_the_search_index_has_the_docs_and_the_reference_but_no_source_files(site):
    places = {entry["location"].partition("#")[0] for entry in json.loads(index_of(site))["docs"]}
    assert {page.replace(".md", ".html") for page in PAGES} - {"index.html"} <= places
    assert {place for place in places if place.startswith("repository/")} == set()


def index_of(site):
    return (site / "search" / "search_index.js").read_text().removeprefix("var __index = ")


@pytest.mark.browser
@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
def test_pages_open_from_disk_without_a_complaint_and_without_scrolling_sideways(site, scheme, width):
    pages = ["index.html", "theory/stability-thresholds.html", "reference/index.html", "results.html"]
    with browsers.running() as browser:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
        for name in pages:
            page = browsers.page_with_complaints(context, own=("file:", "data:", "blob:"))
            page.goto((site / name).as_uri())
            assert page.complaints == []
            assert page.evaluate("document.documentElement.scrollWidth") == width, name


@pytest.mark.browser
@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_the_search_works_from_disk(site):
    with browsers.running() as browser:
        page = browsers.page_with_complaints(browser.new_context(offline=True), own=("file:", "data:", "blob:"))
        page.goto((site / "theory" / "index.html").as_uri())
        page.click(".md-search__input")
        page.keyboard.type("effective_lrs")
        page.wait_for_selector(".md-search-result__item", timeout=60_000)
        hrefs = page.eval_on_selector_all(".md-search-result__link", "links => links.map(link => link.href)")
        assert any("/how-to.html" in href for href in hrefs)
        assert page.complaints == []
