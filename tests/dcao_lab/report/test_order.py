"""Workloads stand in the study's order wherever a page or a paper has several, in whatever order they were run."""

import dataclasses
from itertools import groupby

import pytest

import helpers.paper_cases as paper_cases
from dcao_lab.report.figures.drawings import Panel
from dcao_lab.report.figures.sheets import sheets
from dcao_lab.report.html.page import build_context
from dcao_lab.report.numbers import analyse
from dcao_lab.report.paper.write import tables
from dcao_lab.report.tables.base import cell
from helpers.report_studies import planned

TITLES = ["Digits MLP", "Documentation GPT"]
SOLUTIONS = [{"sharpness": s, "preconditioned_sharpness": s, "trace": s, "density": None} for s in (1.0, 2.0, 3.0)]


@pytest.fixture(scope="module")
def slow_first():
    """Everything that a study can have, of both workloads, the slow one first, as it is done."""
    result = paper_cases.full_result()
    runs = [
        (
            plan,
            dataclasses.replace(run, result=dataclasses.replace(run.result, solution=SOLUTIONS[run.config.seed % 3])),
        )
        for plan, run in result.runs
    ]
    runs.sort(key=lambda pair: pair[0].task.workload, reverse=True)
    missing = [planned(arm, 9, on=task) for arm in paper_cases.ARMS for task in reversed(paper_cases.TASKS)]
    return dataclasses.replace(result, runs=tuple(runs), missing=tuple(missing))


def in_order(texts):
    """Whether texts that have titles in them have each once, or in one stretch, and in the study's order."""
    found = [[title for title in TITLES if title in text] for text in texts]
    assert all(len(titles) < 2 for titles in found)
    stretches = [titles[0] for titles, _ in groupby(found) if titles]
    return stretches == sorted(set(stretches), key=TITLES.index)


def titles(table):
    return [column["title"] for column in table["columns"]]


def test_on_a_page_every_table_has_the_workloads_in_the_order_of_the_study(slow_first):
    page = build_context(slow_first)
    sections = [*page["sure"], *page["overview"], *page["closing"]]
    found = [*(table for section in sections for table in section["tables"]), page["runs"], page["missing"]]
    with_workloads = [table for table in found if "workload" in titles(table)]
    assert len(with_workloads) > 5
    for table in with_workloads:
        column = titles(table).index("workload")
        assert in_order([row[column]["text"] for row in table["rows"]]), table["label"]
    assert [task["title"] for task in page["tasks"]] == TITLES


def test_on_a_page_every_sentence_has_them_so(slow_first):
    both = [line for line in build_context(slow_first)["headlines"] if all(title in line for title in TITLES)]
    assert len(both) > 2
    for line in both:
        assert line.index(TITLES[0]) < line.index(TITLES[1]), line


def test_on_paper_every_figure_and_every_table_has_them_so(slow_first):
    numbers = analyse(slow_first)
    for table in tables(numbers):
        assert in_order([cell(row[0]).text for row in table.rows]), table.name
    for sheet in sheets(numbers):
        titles = [one.paper_title if isinstance(one, Panel) else one.title for one in sheet.drawings]
        assert in_order(titles), sheet.name
