import json
import re
from html.parser import HTMLParser

import pyarrow.parquet as pq
import pytest
from plotly.offline import get_plotlyjs_version

from dcao_lab.errors import LabError
from dcao_lab.files.plotly_basic import plotly_basic
from dcao_lab.report.analysis.shown import MOST_LEADING
from dcao_lab.report.html import write_study_report
from dcao_lab.study import StudyResult, Variation
from helpers.crowded_studies import MANY, RATES, ablation
from helpers.lab_runs import HOSTILE
from helpers.report_studies import ADAMW, DCAO_ADAMW, SGD, finals, planned, result_of, stored, study, with_hostile_names

NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e-?\d+)?")


class VisibleText(HTMLParser):
    """The text of a page, without scripts and styles."""

    def __init__(self, html):
        super().__init__()
        self.parts, self._hidden = [], 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self._hidden += tag in ("script", "style")

    def handle_endtag(self, tag):
        self._hidden -= tag in ("script", "style")

    def handle_data(self, data):
        if not self._hidden:
            self.parts.append(data)


def text_of(page):
    return " ".join(VisibleText(page.read_text()).parts)


def strings(value):
    if isinstance(value, dict):
        return [text for item in value.values() for text in strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


def data_of(page):
    return json.loads((page.parent / "data.json").read_text(), parse_constant=pytest.fail)  # strict JSON


def figures_of(page):
    data = data_of(page)
    by_task = (section for task in data["tasks"] for section in task["sections"])
    sections = [*data["opening"]["sections"], *data["sure"], *data["overview"], *by_task]
    return {panel["id"]: panel["figure"] for section in sections for panel in section["figures"]}


def test_every_number_of_the_page_is_in_the_json_beside_it(report):
    shown = set(NUMBER.findall(text_of(report)))
    known = set(NUMBER.findall(" ".join(strings(data_of(report)))))
    assert len(shown) > 100
    assert shown <= known


def test_the_page_has_every_section_that_the_study_has_data_for(report):
    text = text_of(report)
    for heading in ("How sure is this?", "Over all workloads", "Who beats whom", "Where each starting point ends",
                    "What each arm gains over its reference", "Learning curves", "Stability against the edge",
                    "Learning rate, momentum and weight decay over time", "Curvature of the solutions",
                    "What it costs", "How smoothly it trains", "What tuning chose", "Time to target", "Runs",
                    "Missing runs"):  # fmt: skip
        assert heading in text, heading


def test_sections_without_data_are_left_out(tmp_path):
    page, _ = write_study_report(result_of(study(ADAMW), finals(ADAMW, [0.9])), tmp_path)
    text = text_of(page)
    for heading in ("Over all workloads", "Who beats whom", "Stability against the edge", "Curvature of the solutions",
                    "What tuning chose", "Missing runs"):  # fmt: skip
        assert heading not in text, heading


@pytest.mark.parametrize(("num_seeds", "words"), [(None, "3 seeds"), (2, "2 to 3 seeds"), (9, "3 seeds")])
def test_the_lead_says_with_how_many_seeds(tmp_path, num_seeds, words):
    variation = Variation(axis="lr", value=0.1, num_seeds=num_seeds)
    result = result_of(study(ADAMW, variations=(variation,)), finals(ADAMW, [0.9], variation=variation, lr=0.1))
    page, _ = write_study_report(result, tmp_path)
    assert f": 1 arm on 1 workload, {words}; runs" in text_of(page)


def test_one_seed_is_not_called_seeds(tmp_path):
    page, _ = write_study_report(result_of(study(ADAMW, seeds=(0,)), finals(ADAMW, [0.9])), tmp_path)
    assert ": 1 arm on 1 workload, 1 seed; runs: 1 that count." in text_of(page)


def test_every_trace_belongs_to_an_arm_so_that_the_legend_can_hide_it(report):
    arms = {"adamw", "sgd", "dcao:adamw"}
    traces = [trace for figure in figures_of(report).values() for trace in figure["data"]]
    assert len(traces) > 50
    assert {trace["meta"]["arm"] for trace in traces} == arms


def test_curves_can_be_drawn_over_every_clock(report):
    curves = [trace for key, figure in figures_of(report).items() if "-loss-" in key for trace in figure["data"]]
    assert curves
    for trace in curves:
        assert set(trace["meta"]["clocks"]) == {"steps", "gradient evaluations", "seconds", "epochs"}
        assert {len(xs) for xs in trace["meta"]["clocks"].values()} == {len(trace["y"])}


def test_the_page_needs_nothing_from_the_network(report):
    assert not re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//""", report.read_text())


def test_the_page_opens_with_what_the_command_prints_and_keeps_every_other_sentence_behind_a_question(report):
    html, data = report.read_text(), data_of(report)
    first, rest = html.split('<details class="part" id="sure">')
    assert data["opening"]["verdict"] in text_of(report).split("How sure is this?")[0]
    assert len(data["headlines"]) >= 4
    assert all(line in text_of(report) for line in data["headlines"])
    assert data["opening"]["verdict"] not in data["headlines"]
    assert "Holm" not in first
    assert "Holm" in rest


def test_a_page_of_many_arms_is_smaller_than_two_megabytes(crowded):
    assert crowded.stat().st_size < 2_000_000


def test_the_bundle_is_of_the_plotly_that_checks_the_figures():
    major = int(get_plotlyjs_version().split(".")[0])
    assert f"plotly.js (basic - minified) v{major}." in plotly_basic()[:200]


def test_the_tables_have_a_row_for_each_run_and_evaluation(study_result, report):
    runs = pq.read_table(report.parent / "tables" / "runs.parquet")
    evaluations = pq.read_table(report.parent / "tables" / "evaluations.parquet")
    assert runs.num_rows == len(study_result.runs)
    assert evaluations.num_rows == sum(len(stored.points) for _, stored in study_result.runs)
    first, (planned, stored) = runs.to_pylist()[0], study_result.runs[0]
    assert (first["phase"], first["arm"], first["lr"]) == ("trial", "adamw", planned.config.lr)
    assert first["final_test_accuracy"] == stored.result.final["test_accuracy"]
    assert set(evaluations.column("fingerprint").to_pylist()) == set(runs.column("fingerprint").to_pylist())


def test_hostile_names_are_text(study_result, tmp_path, monkeypatch):
    page, _ = write_study_report(with_hostile_names(study_result, monkeypatch), tmp_path)
    assert HOSTILE in text_of(page)
    assert HOSTILE not in page.read_text()


def test_a_study_of_variations_makes_a_table_and_a_figure_an_axis(tmp_path):
    variations = tuple(
        Variation(axis=axis, value=value)
        for axis, values in (("lr", (1e-3, 1e-1)), ("batch_size", (8, 16)))
        for value in values
    )
    groups = [
        finals(arm, [0.9, None], variation=v, **({"lr": v.value} if v.axis == "lr" else {"batch_size": v.value}))
        for v in variations
        for arm in (ADAMW, DCAO_ADAMW)
    ]
    page, _ = write_study_report(result_of(study(ADAMW, DCAO_ADAMW, variations=variations), *groups), tmp_path)
    (section,) = [s for s in data_of(page)["tasks"][0]["sections"] if s["key"] == "sweep"]
    assert [panel["title"] for panel in section["figures"]] == ["initial learning rate", "batch size"]
    cell = section["tables"][0]["rows"][0][1]
    assert (cell["text"], cell["detail"]) == ("diverged", "1 of 2 diverged")


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    return write_study_report(ablation(), tmp_path_factory.mktemp("crowded"))[0]


def section_of(page, key):
    return next(section for section in data_of(page)["tasks"][0]["sections"] if section["key"] == key)


def test_an_ablation_has_a_bar_an_arm_for_each_condition(crowded):
    section = section_of(crowded, "gain")
    assert section["columns"] == len(RATES)
    bars = [trace for panel in section["figures"] for trace in panel["figure"]["data"]]
    assert {trace["type"] for trace in bars} == {"bar"}
    assert len(bars) == len(RATES) * (len(MANY) - 1)  # of all arms but the one without a reference
    titles = [panel["title"] for panel in section["figures"]]
    for rate in ("1e-5", "1e-3", "1e-1"):
        assert f"rules: against DCAO(AdamW), initial learning rate {rate}" in titles


def test_crowded_curves_keep_arms_back_and_say_which(crowded):
    section = section_of(crowded, "curves")
    for panel in section["figures"]:
        traces = panel["figure"]["data"]
        assert len({t["meta"]["arm"] for t in traces if not t["meta"].get("is_extra")}) == MOST_LEADING
        assert {t["meta"]["arm"] for t in traces} == {arm.name for arm in MANY}
    assert text_of(crowded).count(f"Crowded figures show at first {MOST_LEADING} of {len(MANY)} arms") == 1


def test_the_band_of_three_seeds_is_called_a_range(crowded, tmp_path):
    assert "a band shows the range over seeds" in section_of(crowded, "curves")["caption"]
    few, _ = write_study_report(result_of(study(ADAMW), finals(ADAMW, [0.7, 0.8, 0.9])), tmp_path)
    assert "small: the range over seeds" in text_of(few)
    assert data_of(few)["tasks"][0]["table"]["rows"][0][1]["detail"] == "70.0\N{EN DASH}90.0\N{NO-BREAK SPACE}%"


def test_a_network_far_out_is_a_mark_at_the_edge_and_counted(tmp_path):
    gaps = [0.1 + 0.01 * seed for seed in range(10)] + [40_000.0]
    runs = []
    for seed, gap in enumerate(gaps):
        plan = planned(ADAMW, seed)
        solution = {"sharpness": 1.0 + seed, "preconditioned_sharpness": None, "trace": 5.0, "density": None}
        runs.append((plan, stored(plan.config, 0.9, generalisation_gap=gap, solution=solution)))
    page, _ = write_study_report(result_of(study(ADAMW, seeds=tuple(range(len(gaps)))), runs), tmp_path)
    panel = section_of(page, "solutions")["figures"][0]
    points, marks = panel["figure"]["data"]
    assert panel["title"].endswith("(11 networks), 1 out of view")
    assert 10 ** panel["figure"]["layout"]["yaxis"]["range"][1] < 10.0
    assert points["y"][-1] == 40_000.0  # what the data button writes
    assert marks["meta"]["is_mark"]
    assert marks["marker"]["symbol"] == ["triangle-up-open"]  # AdamW alone
    assert marks["text"] == ["out of view: (11, 4e+04)"]


def test_runs_that_all_diverged_make_a_page_too(tmp_path):
    page, verdict = write_study_report(
        result_of(study(ADAMW, SGD, DCAO_ADAMW), *(finals(a, [None] * 3) for a in (ADAMW, SGD, DCAO_ADAMW))), tmp_path
    )
    assert "3 of 3 diverged" in text_of(page)
    assert verdict


def test_no_runs_make_no_page(tmp_path):
    with pytest.raises(LabError, match="there are no finished runs to report on; run some first"):
        write_study_report(StudyResult(study=study(ADAMW), runs=(), missing=()), tmp_path)
