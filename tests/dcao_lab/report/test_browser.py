"""The page in a real browser: light, dark, on a phone, with the keyboard, and with hostile names."""

import shutil

import pytest

from dcao_lab.report.build import write_report
from lab_runs import HOSTILE, with_hostile_names

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install playwright)")
CHROMIUM = shutil.which("chromium")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium (apt-get install chromium)")

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
VIEWS = {"light": ("light", 1280, 900), "dark": ("dark", 1280, 900), "phone": ("light", 390, 844)}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(stored_runs, tmp_path_factory):
    return write_report(stored_runs, tmp_path_factory.mktemp("report"))[0]


@pytest.fixture
def open_page(browser):
    contexts = []

    def open_page(path, view="light"):
        scheme, width, height = VIEWS[view]
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.complaints = []
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on(
            "request",
            lambda request: request.url.startswith(("file:", "data:", "blob:")) or page.complaints.append(request.url),
        )
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()


def background(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


@pytest.mark.parametrize("view", VIEWS)
def test_every_figure_is_drawn_and_nothing_complains(open_page, report, view):
    page = open_page(report, view)
    for plot in page.locator(".plot").all():
        plot.scroll_into_view_if_needed()
        playwright.expect(plot.locator(".main-svg").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= VIEWS[view][1]  # nothing sticks out
    assert page.complaints == []


def test_it_follows_the_systems_colours_and_the_button_switches_them(open_page, report):
    light, dark = open_page(report, "light"), open_page(report, "dark")
    white, black = background(light), background(dark)
    assert white != black
    light.locator("#theme").click()
    assert background(light) == black
    dark.locator("#theme").click()
    assert background(dark) == white


def test_figures_take_the_colours_of_the_page(open_page, report):
    page = open_page(report, "light")
    page.locator(".plot .xtick text").first.wait_for()
    fill = "getComputedStyle(document.querySelector('.plot .xtick text')).fill"
    before = page.evaluate(fill)
    page.locator("#theme").click()
    page.wait_for_function(f"{fill} != '{before}'")


def test_all_controls_are_reached_with_the_keyboard(open_page, report):
    page = open_page(report)
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.id || document.activeElement.name || document.activeElement.tagName")
        )
    assert {"theme", "workload", "SUMMARY"} <= reached


def test_hostile_names_do_nothing(open_page, stored_runs, tmp_path, monkeypatch):
    page = open_page(write_report(with_hostile_names(stored_runs, monkeypatch), tmp_path)[0])
    page.locator(".plot .main-svg").first.wait_for()
    assert page.evaluate("window.hacked") is None
    assert HOSTILE in page.locator("article h3").inner_text()
    assert page.complaints == []
