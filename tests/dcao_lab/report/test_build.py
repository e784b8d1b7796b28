import dataclasses
import json
import re
from html.parser import HTMLParser

import pytest

from dcao_lab.errors import LabError
from dcao_lab.report.build import write_report
from lab_runs import HOSTILE, with_hostile_names

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


def strings(value):
    if isinstance(value, dict):
        return [text for item in value.values() for text in strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


def test_every_number_of_the_page_is_in_the_json_beside_it(stored_runs, tmp_path):
    page, _ = write_report(stored_runs, tmp_path)
    shown = set(NUMBER.findall(" ".join(VisibleText(page.read_text()).parts)))
    known = set(NUMBER.findall(" ".join(strings(json.loads((tmp_path / "data.json").read_text())))))
    assert len(shown) > 20
    assert shown <= known


def test_the_page_needs_nothing_from_the_network(stored_runs, tmp_path):
    page, _ = write_report(stored_runs, tmp_path)
    outside_of_plotly = page.read_text().split("<script>")[0] + page.read_text().rsplit("<script>", 1)[1]
    assert not re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//""", outside_of_plotly)


def test_the_json_is_strict(stored_runs, tmp_path):
    write_report(stored_runs, tmp_path)
    json.loads((tmp_path / "data.json").read_text(), parse_constant=pytest.fail)


def test_the_page_opens_with_what_the_command_prints(stored_runs, tmp_path):
    page, headlines = write_report(stored_runs, tmp_path)
    text = "".join(VisibleText(page.read_text()).parts)
    assert len(headlines) == 3
    assert all(line in text for line in headlines)


def test_hostile_names_are_text(stored_runs, tmp_path, monkeypatch):
    page, _ = write_report(with_hostile_names(stored_runs, monkeypatch), tmp_path)
    html = page.read_text()
    assert HOSTILE in "".join(VisibleText(html).parts)
    assert HOSTILE not in html


def test_runs_without_probes_make_a_page_too(stored_runs, tmp_path):
    bare = [dataclasses.replace(run, probes=()) for run in stored_runs if run.config.optimizer == "adamw"]
    page, headlines = write_report(bare, tmp_path)
    assert headlines == ["These runs do not compare an optimizer with and without DCAO."]
    assert "The stability number" not in page.read_text()


def test_no_runs_make_no_page(tmp_path):
    with pytest.raises(LabError, match="there are no finished runs to report on; run some first"):
        write_report([], tmp_path)
