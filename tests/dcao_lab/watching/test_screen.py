"""What a terminal shows of a run, down to 60 columns."""

import io
import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from dcao_lab.watching.axes import Axis
from dcao_lab.watching.chart import chart_of
from dcao_lab.watching.live import LiveRun, Panel
from dcao_lab.watching.screen import screen_of
from helpers.live_logs import write_log


def screen(run, width, height=30):
    console = Console(width=width, height=height, record=True, file=io.StringIO())
    console.print(screen_of(run, console))
    return console.export_text().splitlines()


@pytest.fixture
def run(tmp_path):
    run = LiveRun(write_log(tmp_path / "run.jsonl", num_records=400))
    run.look()
    return run


@pytest.mark.parametrize("width", [60, 80, 110])
def test_nothing_is_cut_and_everything_is_named(run, width):
    lines = screen(run, width)
    text = " ".join(" ".join(lines).split())
    assert max(map(len, lines)) <= width
    assert "last record at step 3990" in text
    assert "training loss 0.18" in text
    assert "stability number s 1.2, edge at 2" in text
    assert "learning rate 0.002" in text
    assert (
        "last decision under the ceiling: lr 0.00205 -> 0.002; this probe allows 0.0031, the last ones 0.0029" in text
    )
    assert "arrived; skipped 3 times" in text
    assert all(len(line) == width for line in lines if "\N{BOX DRAWINGS LIGHT VERTICAL}" in line)


@pytest.mark.parametrize("height", [17, 24, 30, 60])
def test_it_is_no_taller_than_the_terminal(run, height):
    assert len(screen(run, 60, height)) <= height


def test_before_the_first_record_it_says_where_that_is_waited_for(tmp_path):
    run = LiveRun(Path("runs") / "waited.jsonl")
    assert screen(run, 60) == ["waited.jsonl", "no record yet in runs/waited.jsonl"]


def panel(values, **axis):
    shown = Axis(**{"low": 0.0, "high": 1.0, "is_log": False, **axis})
    return Panel(name="p", latest=None, steps=np.arange(float(len(values))), values=np.array(values), axis=shown)


def curve(panel, rows, columns):
    _, *body = str(chart_of(panel, width=columns + 11, rows=rows)).split("\n")
    return [line[11:] for line in body]


def test_a_line_goes_from_corner_to_corner():
    # Two dots by four a character: a diagonal of 8 by 8 dots has the dots (i, 7 - i).
    assert curve(panel([0.0, 1.0]), rows=2, columns=4) == ["  ⡠⠊", "⡠⠊  "]


def test_a_gap_is_left_open():
    assert curve(panel([0.0, math.nan, 0.0]), rows=1, columns=4) == ["⡀  ⢀"]


def test_the_edge_is_a_line_behind_the_curve():
    shown = panel([0.0, 0.0])
    shown = Panel(**{**vars(shown), "edge": 1.0})
    assert curve(shown, rows=2, columns=3) == ["───", "⣀⣀⣀"]


def test_what_is_out_of_view_is_at_the_end_of_the_axis():
    assert curve(panel([9.0, 9.0]), rows=2, columns=3) == ["⠉⠉⠉", "   "]
