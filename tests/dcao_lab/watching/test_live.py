"""What is shown of a run: the numbers of its records, its gaps, and few points however long it is."""

import contextlib
import json
import math
import os
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from dcao import Decision, JsonlRecorder
from dcao.plotting.marks import marks_of
from dcao_lab.config import RunConfig
from dcao_lab.runs.store import RunStore
from dcao_lab.watching.axes import axis_of
from dcao_lab.watching.course import Course
from dcao_lab.watching.live import LiveRun
from dcao_lab.watching.thinning import thinned
from helpers.records import ESTIMATE, GUARD, HERE, RECORD

CONFIG = RunConfig(workload="digits_mlp", optimizer="dcao:adamw", lr=1e-3, seed=0, num_steps=9, eval_every=3)


def usual(step, *, loss=0.5, s=1.0, lr=0.1, reason="under the ceiling: lr 0.1 -> 0.1"):
    estimate = replace(ESTIMATE, step=step, s=s)
    decision = Decision(hyperparameters=HERE, reason=reason)
    return replace(RECORD, step=step, loss=loss, estimate=estimate, decision=decision, after=replace(HERE, lr=lr))


def course_of(*records):
    course = Course()
    for record in records:
        course.add(json.dumps(record.to_dict()).encode())
    return course


def test_the_numbers_are_those_of_the_records():
    course = course_of(usual(0), usual(7, loss=0.25, s=math.inf, lr=0.2, reason="s inf against target 1.5"))
    assert (course.num_records, course.num_unreadable, course.step) == (2, 0, 7)
    assert course.reason == "s inf against target 1.5"
    assert [list(series.steps) for series in (course.loss, course.s, course.lr)] == [[0.0, 7.0]] * 3
    assert [list(s.values) for s in (course.loss, course.s, course.lr)] == [[0.5, 0.25], [1.0, math.inf], [0.1, 0.2]]


def test_what_is_unknown_is_a_gap_and_a_skipped_step_has_no_s():
    course = course_of(usual(0), replace(RECORD, estimate=replace(ESTIMATE, s=None)), GUARD)
    np.testing.assert_equal(list(course.loss.values), [0.5, math.nan, math.nan])
    np.testing.assert_equal(list(course.s.values), [1.0, math.nan])


def test_a_resumed_run_that_goes_back_leaves_a_gap():
    course = course_of(usual(0), usual(9, loss=0.4), usual(3, loss=0.3))
    assert list(course.loss.steps) == [0.0, 9.0, 3.0, 3.0]
    np.testing.assert_equal(list(course.loss.values), [0.5, 0.4, math.nan, 0.3])


@pytest.mark.parametrize("line", [b"", b"7", b"{}", b'{"step": 1}', b"\xff", b"[]", b'{"step": "one"}'])
def test_a_line_that_is_no_record_is_counted_and_left_out(line):
    course = course_of(usual(0))
    course.add(line)
    assert (course.num_records, course.num_unreadable, list(course.loss.steps)) == (1, 1, [0.0])


@pytest.mark.parametrize(
    "record",
    [
        usual(0),
        usual(0, reason="arrived: lr 0.2 -> 0.1; this probe allows 0.1"),
        usual(0, reason="measured again; arrived: lr 0.2 -> 0.1"),
        replace(GUARD, decision=replace(GUARD.decision, reason="guard; step skipped (the loss is nan)")),
        replace(GUARD, decision=replace(GUARD.decision, reason="blew up; back to the snapshot of step 3")),
        replace(GUARD, turned_at=0.1),
        replace(GUARD, turned_at=0.1, decision=replace(GUARD.decision, reason="up; back to the snapshot of step 3")),
        replace(usual(0, reason="arrived: lr 0.2 -> 0.1"), observation=None),
    ],
    ids=lambda record: record.decision.reason,
)
def test_events_are_the_marks_of_a_picture_of_the_run(record):
    assert dict(course_of(record, record).events) == {mark.name: len(mark.steps) for mark in marks_of([record, record])}


def slow_largest_triangles(points, most):
    """Steinarsson's algorithm 4.2 in words of one loop, with areas by the determinant."""
    edges = [int(edge) for edge in np.linspace(1, len(points) - 1, most - 1)]
    buckets = [points[:1], *(points[a:b] for a, b in pairwise(edges)), points[-1:]]
    chosen = [points[0]]
    for bucket, after in pairwise(buckets[1:]):
        mean = np.mean(after, axis=0)
        areas = [abs(np.linalg.det([[*chosen[-1], 1.0], [*point, 1.0], [*mean, 1.0]])) / 2 for point in bucket]
        chosen.append(bucket[int(np.argmax(areas))])
    return [*chosen, points[-1]]


def test_thinning_keeps_the_points_of_largest_triangle_three_buckets():
    values = np.random.default_rng(0).normal(size=500).cumsum()
    steps, kept = thinned(range(500), values, most=40)
    expected = slow_largest_triangles(np.column_stack([np.arange(500.0), values]), most=40)
    np.testing.assert_array_equal(np.column_stack([steps, kept]), expected)


@pytest.mark.parametrize("peak", [1, 777, 99_998])
def test_a_lone_peak_of_a_hundred_thousand_steps_stays(peak):
    values = np.zeros(100_000)
    values[peak] = 1.0
    steps, kept = thinned(range(100_000), values, most=1000)
    assert len(steps) == 1000
    assert steps[kept == 1.0] == [peak]


def test_gaps_stay_gaps_and_add_at_most_one_point_for_each_kept():
    values = np.where(np.arange(10_000) // 2500 % 2, np.nan, np.arange(10_000.0))
    steps, kept = thinned(range(10_000), values, most=100)
    assert np.isfinite(kept).sum() == 100
    np.testing.assert_array_equal(steps[np.isnan(kept)], [2500.0, 7500.0])


@pytest.mark.parametrize("values", [[], [math.nan], [math.inf, -math.inf], [1.0], [0.0, 0.0], [-1.0, 1e300]], ids=str)
@pytest.mark.parametrize("is_log", [None, True, False])
def test_every_axis_has_a_finite_span_whatever_the_values(values, is_log):
    axis = axis_of(np.array(values), is_log=is_log)
    assert math.isfinite(axis.low)
    assert axis.low < axis.high < math.inf
    assert not (axis.is_log and axis.low <= 0.0)


def test_one_blow_up_does_not_hide_the_rest_and_the_edge_is_in_view():
    axis = axis_of(np.array([0.5, 0.6, 0.7, 0.8] * 20 + [1e9]), is_log=False, keep=(2.0,))
    assert 2.0 < axis.high < 3.0


def test_logarithmic_heights_are_those_of_the_logarithm():
    axis = axis_of(np.array([1e-4, 1.0]))
    low, middle, high = axis.heights(np.array([1e-4, 1e-2, 1.0]))
    assert axis.is_log
    assert middle == pytest.approx(0.5, abs=1e-12)  # a geometric mean; logarithms of 1e-4 carry 1e-16 each
    assert 0.0 < low < 0.1 < 0.9 < high < 1.0


def test_a_look_says_whether_there_is_something_new(tmp_path):
    path = tmp_path / "log.jsonl"
    run = LiveRun(path)
    assert not run.look()
    assert run.state == f"no record yet in {path}"  # and not that it is running: nobody knows
    JsonlRecorder(path).record(usual(0))
    assert run.look()
    assert not run.look()
    assert run.state == "last record at step 0"


def test_a_log_that_is_written_anew_is_shown_from_its_beginning(tmp_path):
    path = tmp_path / "log.jsonl"
    run, recorder = LiveRun(path), JsonlRecorder(path)
    for step in range(3):
        recorder.record(usual(step))
    run.look()
    os.truncate(path, 0)
    recorder.record(usual(50))
    assert run.look()
    assert list(run.course.loss.steps) == [50.0]


def test_unreadable_lines_are_said(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"no\nrecords\n")
    run = LiveRun(path)
    run.look()
    assert run.notices == ["2 lines of the log are no records and are left out"]
    assert run.panels(10)[0].latest is None


def test_the_state_is_that_of_the_run_from_waiting_for_it_to_its_end(tmp_path):
    store = RunStore(tmp_path / "runs")
    run, states = LiveRun(store.root), []

    def look():
        assert run.look() or not states
        states.append(run.state)

    with store.writing(CONFIG):
        pass  # another run, which is over
    look()
    other = replace(CONFIG, seed=1)
    with contextlib.suppress(KeyboardInterrupt), store.writing(other) as folder:
        JsonlRecorder(folder / "telemetry.jsonl").record(usual(3))
        look()
        raise KeyboardInterrupt
    look()
    with store.writing(other) as folder:
        JsonlRecorder(folder / "telemetry.jsonl").record(usual(5))
        look()
    look()
    assert states == [
        f"no run is under way in {store.root}",
        "running, last record at step 3",
        "interrupted, last record at step 3; waits for the run to go on",
        "running, last record at step 5",
        "over, last record at step 5",
    ]
    assert run.is_over
    assert list(run.course.loss.steps) == [5.0]
