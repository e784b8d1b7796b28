"""The page in a real browser: light, dark, on a phone, with the keyboard, and with hostile names."""

import csv
import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from dcao_lab.report.html import write_study_report
from helpers import browser as browsers
from helpers.crowded_studies import MANY, ablation
from helpers.demo_studies import six_cases
from helpers.lab_runs import HOSTILE
from helpers.report_studies import ADAMW, DCAO_ADAMW, SGD, finals, result_of, study, task, with_hostile_names

MISSING = browsers.what_is_missing()
if MISSING is None:
    from playwright import sync_api as playwright

pytestmark = [pytest.mark.browser, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]

VIEWS = {
    "light": ("light", 1280, 900),
    "dark": ("dark", 1280, 900),
    "tablet": ("light", 768, 1024),
    "phone": ("light", 390, 844),
}


@pytest.fixture(scope="module")
def browser():
    with browsers.running() as browser:
        yield browser


@pytest.fixture
def open_page(browser):
    contexts = []

    def open_page(path, view="light"):
        scheme, width, height = VIEWS[view]
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = browsers.page_with_complaints(context, own=("file:", "data:", "blob:"))
        page.goto(path.as_uri())
        page.wait_for_function("document.documentElement.dataset.ready")
        return page

    yield open_page
    for context in contexts:
        context.close()


def unfold(page, *parts):
    """Opens these folded parts of the page, or all but the tables of many rows."""
    chosen = ", ".join(f"#{part}" for part in parts) or "details:not(.table)"
    page.evaluate("chosen => document.querySelectorAll(chosen).forEach(one => { one.open = true; })", chosen)


def background(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


@pytest.mark.parametrize("view", VIEWS)
def test_every_figure_is_drawn_and_nothing_complains(open_page, report, view):
    page = open_page(report, view)
    unfold(page)
    for plot in page.locator(".plot:visible").all():
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


def test_all_controls_are_reached_and_used_with_the_keyboard(open_page, report):
    page = open_page(report)
    for heading in page.locator("#sure > summary, #workloads > summary, #t0-curves > summary").all():
        heading.focus()
        page.keyboard.press("Enter")
    page.locator("#theme").focus()
    reached = {"theme"}
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("(e => e.id || e.name || e.className || e.tagName)(document.activeElement)"))
    assert {"theme", "scroll", "data", "workload", "clock-t0", "SUMMARY"} <= reached
    page.locator("#chooser input").first.focus()
    page.keyboard.press("ArrowRight")
    playwright.expect(page.locator('.workload[data-workload="t1"]')).to_be_visible()
    playwright.expect(page.locator('.workload[data-workload="t0"]')).to_be_hidden()


def test_the_legend_hides_an_arm_everywhere(open_page, report):
    page = open_page(report)
    unfold(page, "workloads", "t0-curves", "arms")
    plot = page.locator("#t0-loss-0")
    plot.scroll_into_view_if_needed()
    plot.locator(".main-svg").first.wait_for()
    before = plot.locator(".scatterlayer .trace").count()
    button = page.locator('#arms button.arm[data-arm="adamw"]')
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert plot.locator(".scatterlayer .trace").count() < before
    button.click()
    assert plot.locator(".scatterlayer .trace").count() == before


def test_curves_can_be_looked_at_over_gradient_evaluations(open_page, report):
    page = open_page(report)
    unfold(page, "workloads", "t0-curves")
    plot = page.locator("#t0-loss-0")
    plot.scroll_into_view_if_needed()
    playwright.expect(plot.locator(".xtitle")).to_have_text("steps")
    page.locator(".workload:not([hidden]) .clocks span", has_text="gradient evaluations").click()
    playwright.expect(plot.locator(".xtitle")).to_have_text("gradient evaluations")


def test_the_data_of_a_figure_is_one_click_away(open_page, report):
    page = open_page(report)
    unfold(page, "workloads", "t0-curves")
    button = page.locator('button.data[data-figure="t0-loss-0"]')
    with page.expect_download() as download:
        button.click()
    rows = list(csv.reader(Path(download.value.path()).read_text().splitlines()))
    assert download.value.suggested_filename == "t0-loss-0.csv"
    assert rows[0][:3] == ["trace", "steps", "training loss"]
    assert {"AdamW", "SGD", "DCAO(AdamW)"} <= {row[0] for row in rows[1:]}
    assert all(float(row[1]) >= 0 for row in rows[1:])
    assert page.complaints == []


def test_on_paper_every_workload_is_there_with_what_is_unfolded(open_page, report):
    page = open_page(report, "dark")
    unfold(page, "workloads", "t0-curves", "t1-curves")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".workload[hidden]").count() == 0
    assert page.locator("#t1-curves .plot:not(:has(.main-svg))").count() == 0
    assert page.locator("#t1-hyper .main-svg").count() == 0
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator(".workload[hidden]").count() == 1


def test_many_arms_fit_on_a_phone(open_page, tmp_path):
    arms = [replace(ADAMW, name=f"a{i}", title=f"An arm with a rather long name, number {i}") for i in range(18)]
    everyone = (ADAMW, SGD, DCAO_ADAMW, *arms)
    groups = [finals(arm, [0.5 + 0.01 * i, 0.6]) for i, arm in enumerate(everyone)]
    page = open_page(write_study_report(result_of(study(*everyone), *groups), tmp_path)[0], "phone")
    unfold(page)
    page.locator(".plot:visible").first.scroll_into_view_if_needed()
    page.locator(".plot:visible .main-svg").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.complaints == []


def test_arms_that_a_crowded_figure_keeps_back_are_a_click_away(open_page, tmp_path):
    page = open_page(write_study_report(ablation(), tmp_path)[0])
    unfold(page, "workloads", "t0-curves")
    plot = page.locator("#t0-loss-0")
    plot.scroll_into_view_if_needed()
    plot.locator(".main-svg").first.wait_for()
    traces = plot.locator(".scatterlayer .trace")
    playwright.expect(traces).to_have_count(16)  # eight arms, a median and a band each
    page.locator("#crowd span", has_text=f"all {len(MANY)} arms").click()
    playwright.expect(traces).to_have_count(len(MANY) + 8)
    assert page.complaints == []


@pytest.mark.parametrize("view", ["light", "tablet", "phone"])
def test_an_ablation_has_a_column_a_condition_however_narrow_the_screen(open_page, tmp_path, view):
    page = open_page(write_study_report(ablation(), tmp_path)[0], view)
    unfold(page, "workloads", "t0-gain")
    row = page.locator(".workload:not([hidden]) .panels.grid")
    boxes = [figure.bounding_box() for figure in row.locator("figure").all()]
    columns = int(row.evaluate("element => getComputedStyle(element).getPropertyValue('--columns')"))
    assert columns > 1
    assert len(boxes) % columns == 0
    assert len({round(box["y"]) for box in boxes}) == len(boxes) // columns
    assert row.evaluate("element => element.scrollWidth > element.clientWidth") == (view != "light")
    assert page.evaluate("document.documentElement.scrollWidth") <= VIEWS[view][1]
    assert page.complaints == []


def test_hostile_names_do_nothing(open_page, study_result, tmp_path, monkeypatch):
    page = open_page(write_study_report(with_hostile_names(study_result, monkeypatch), tmp_path)[0])
    unfold(page)
    for plot in page.locator(".workload:not([hidden]) .plot").all():
        plot.scroll_into_view_if_needed()
        plot.locator(".main-svg").first.wait_for()
    page.locator("button.arm").first.click()
    page.locator("button.data").first.click()
    assert page.evaluate("window.hacked") is None
    assert HOSTILE in page.locator("article h3").first.inner_text()
    assert page.complaints == []


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return write_study_report(six_cases(), tmp_path_factory.mktemp("demo"))[0]


WORDS = """plot => [...plot.querySelectorAll(".annotation-text")].map(text => {
    const box = text.getBoundingClientRect();
    return {text: text.textContent, left: box.left, right: box.right, top: box.top, bottom: box.bottom};
})"""


def do_overlap(one, other):
    return (
        one["left"] < other["right"]
        and other["left"] < one["right"]
        and one["top"] < other["bottom"]
        and other["top"] < one["bottom"]
    )


def require_words_inside_and_apart(plots):
    for plot in plots:
        plot.scroll_into_view_if_needed()
        plot.locator(".annotation-text").first.wait_for()
        words, box = plot.evaluate(WORDS), plot.bounding_box()
        assert len(words) >= 2
        for number, one in enumerate(words):
            assert box["x"] <= one["left"] <= one["right"] <= box["x"] + box["width"], one
            assert not [other for other in words[:number] if do_overlap(one, other)], one


@pytest.mark.parametrize("view", VIEWS)
def test_the_words_in_a_picture_are_on_it_and_apart(open_page, demo, view):
    page = open_page(demo, view)
    plots = page.locator(".plot:visible").all()
    assert len(plots) == 6
    require_words_inside_and_apart(plots)
    assert page.evaluate("document.documentElement.scrollWidth") <= VIEWS[view][1]
    assert page.complaints == []


def test_the_verdict_the_tiles_and_the_picture_are_on_the_first_screen(open_page, demo):
    page = open_page(demo)
    page.locator(".plot .main-svg").first.wait_for()
    seen = [*page.locator(".verdict, .tiles").all(), *page.locator("#first-lr-0, #first-lr-5").all()]
    bottoms = [box["y"] + box["height"] for box in (each.bounding_box() for each in seen)]
    assert len(bottoms) == 4
    assert max(bottoms) <= 800.0


def test_all_the_rest_is_folded_and_is_drawn_when_it_is_opened(open_page, demo):
    page = open_page(demo)
    playwright.expect(page.locator("#chooser")).to_be_hidden()
    page.locator("#workloads > summary").click()
    playwright.expect(page.locator("#chooser")).to_be_visible()
    page.locator("#t0-curves > summary").click()
    plot = page.locator("#workloads .plot:visible").first
    plot.scroll_into_view_if_needed()
    playwright.expect(plot.locator(".main-svg").first).to_be_visible()
    assert page.complaints == []


def test_on_paper_pictures_are_as_wide_as_paper_however_wide_the_window(open_page, demo):
    page = open_page(demo)
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    widths = page.evaluate("[...document.querySelectorAll('#opening .main-svg')].map(one => one.clientWidth)")
    assert len(widths) >= 6
    assert max(widths) <= 720  # A4 between margins of a centimetre: 19 of 2.54 cm by 96 pixels
    assert page.locator("details .main-svg").count() == 0  # folded: not printed, and not drawn without a width
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    page.wait_for_function("document.querySelector('#first-lr-2 .main-svg').getBoundingClientRect().right > 1000")


def test_names_stand_at_the_ends_of_lines_inside_of_the_picture_and_apart(open_page, tmp_path):
    page = open_page(write_study_report(ablation(), tmp_path)[0])
    unfold(page, "workloads", "t0-curves", "t0-sweep")
    plots = [page.locator(f"#{name}") for name in ("t0-loss-0", "t0-metric-1", "t0-sweep-0")]
    require_words_inside_and_apart(plots)


def test_a_hidden_arm_takes_its_name_along(open_page, report):
    page = open_page(report)
    unfold(page, "workloads", "t0-curves", "arms")
    plot = page.locator("#t0-loss-0")
    plot.scroll_into_view_if_needed()
    playwright.expect(plot.locator(".annotation-text", has_text="SGD")).to_have_count(1)
    page.locator('#arms button.arm[data-arm="sgd"]').click()
    playwright.expect(plot.locator(".annotation-text", has_text="SGD")).to_have_count(0)


def test_at_first_sight_a_page_has_few_words_however_many_arms(open_page, tmp_path):
    page = open_page(write_study_report(ablation(), tmp_path)[0])
    words = page.evaluate("document.body.innerText").split()
    assert 50 < len(words) < 1500


def test_a_phone_keeps_the_first_column_and_says_that_there_are_more(open_page, report):
    page = open_page(report, "phone")
    unfold(page, "end-overhead")
    box = page.locator("#end-overhead .scroll")
    assert "more" in box.get_attribute("class").split()
    first = box.locator("tbody th").first
    before = first.bounding_box()["x"]
    box.evaluate("element => { element.scrollLeft = 200; }")
    assert first.bounding_box()["x"] == pytest.approx(before, abs=1.0)  # a pixel of rounding


def test_a_phone_says_once_what_is_the_same_in_every_row(open_page, report):
    desktop, phone = open_page(report), open_page(report, "phone")
    for page, is_shown in ((desktop, True), (phone, False)):
        unfold(page, "end-targets")
        assert page.locator("#end-targets th.constant").first.is_visible() == is_shown
        assert page.locator("#end-targets .everywhere").is_visible() != is_shown


def test_of_many_workloads_one_is_chosen_from_a_list(open_page, tmp_path):
    names = ("digits_mlp", "digits_cnn", "digits_resnet", "mnist1d_mlp", "mnist1d_conv", "pydoc_gpt", "pydoc_lstm",
             "siren", "poisson")  # fmt: skip
    tasks = tuple(task(name) for name in names)
    groups = [finals(arm, [0.5], on=on) for arm in (ADAMW, DCAO_ADAMW) for on in tasks]
    page = open_page(
        write_study_report(result_of(study(ADAMW, DCAO_ADAMW, tasks=tasks), *groups), tmp_path)[0], "phone"
    )
    unfold(page, "workloads")
    page.locator("#chooser select").select_option(label="SIREN")
    playwright.expect(page.locator('.workload[data-workload="t7"]')).to_be_visible()
    playwright.expect(page.locator('.workload[data-workload="t0"]')).to_be_hidden()
    assert page.locator("#bar").bounding_box()["height"] < 200  # of 844: there is room for a figure
    assert page.complaints == []


@pytest.mark.parametrize("view", VIEWS)
def test_bars_have_half_of_the_picture_and_numbers_apart_however_long_their_names(open_page, tmp_path, view):
    arms = [replace(DCAO_ADAMW, name=f"a{i}", title=f"DCAO(AdamW), a rather long setting number {i}") for i in range(4)]
    groups = [finals(arm, [0.5 + 0.01 * i, 0.6, 0.7]) for i, arm in enumerate((ADAMW, *arms))]
    page = open_page(write_study_report(result_of(study(ADAMW, *arms), *groups), tmp_path)[0], view)
    plot = page.locator("#first-gains-0")
    plot.locator(".xtick text").first.wait_for()
    ticks = plot.evaluate("plot => [...plot.querySelectorAll('.xtick text')].map(one => one.getBoundingClientRect())")
    assert all(one["right"] < other["left"] for one, other in itertools.pairwise(ticks))
    area = plot.locator(".plot .bglayer, .bglayer").first.evaluate("layer => layer.getBoundingClientRect().width")
    grid = plot.locator(".draglayer .nsewdrag").first.bounding_box()["width"]
    assert max(area, grid) > 0.35 * plot.bounding_box()["width"]
    assert page.complaints == []
