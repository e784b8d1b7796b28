"""``dcao.plot``: what it takes, what it refuses, what it marks, and that it leaves nothing behind."""

from __future__ import annotations

import io
import itertools
import json
import math
import os
import random
import subprocess
import sys
from dataclasses import replace
from functools import partial

import matplotlib as mpl
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn, optim

import dcao
from dcao import DCAO, Guard, JsonlRecorder, MemoryRecorder, StepRecord, policies
from dcao.plotting.inks import INKS, MARK_INK
from dcao.plotting.reading import RUN_FILE
from dcao_lab.report.figures.styles import COLORS, GREY
from dcao_lab.runs.store import TELEMETRY
from helpers.records import RECORD

RECORDS = [replace(RECORD, step=step, loss=1.0 / (1 + step)) for step in range(3)]
CEILING = "lr 0.1 -> 0.1; this probe allows 1, the last ones 1"
BACK = "guard: out of line; step skipped (7 in a row); back to the snapshot of step 5"
SKIP = "guard: loss or gradients are not finite; step skipped (1 in a row)"


def write(path, records):
    recorder = JsonlRecorder(path)
    for record in records:
        recorder.record(record)
    return path


def losses(figure):
    return list(figure.axes[0].lines[0].get_ydata())


# --- what it takes


def test_records_a_file_and_a_runs_folder_make_the_same_figure(tmp_path):
    file = write(tmp_path / RUN_FILE, RECORDS)
    expected = [record.loss for record in RECORDS]
    for source in (RECORDS, iter(RECORDS), file, str(file), tmp_path):
        assert losses(dcao.plot(source)) == expected


def test_the_lab_keeps_its_records_where_plot_looks_for_them():
    assert RUN_FILE == TELEMETRY


@pytest.mark.parametrize("cut", [1, 40])
def test_a_last_line_that_is_still_being_written_is_left_out(tmp_path, cut):
    file = write(tmp_path / "run.jsonl", RECORDS)
    file.write_text(file.read_text()[: -1 - cut])
    assert losses(dcao.plot(file)) == [record.loss for record in RECORDS[:-1]]


def test_panels_are_chosen_and_ordered():
    assert [axes.get_label() for axes in dcao.plot(RECORDS, panels=["lr", "loss"]).axes] == ["lr", "loss"]


def test_a_single_record_is_a_picture_too():
    assert losses(dcao.plot(RECORDS[:1])) == [1.0]


# --- what it refuses


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (MemoryRecorder(), r"records must be StepRecords, .* got MemoryRecorder; pass its records"),
        (RECORDS[0], r"got StepRecord; pass a list of them"),
        (3, r"got int; DCAO\(..., recorder=MemoryRecorder\(\)\) keeps them in recorder.records"),
        ([RECORDS[0], {"step": 1}], r"got dict at index 1; read_jsonl\(path\) reads a log"),
    ],
    ids=["recorder", "record", "number", "dict"],
)
def test_what_has_no_records_is_refused(source, message):
    with pytest.raises(TypeError, match=message):
        dcao.plot(source)


def test_a_recorder_of_a_file_is_refused_with_its_path(tmp_path):
    with pytest.raises(TypeError, match=r"got JsonlRecorder; pass its path"):
        dcao.plot(JsonlRecorder(tmp_path / "run.jsonl"))


def test_a_path_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no .*nowhere.jsonl; check the path"):
        dcao.plot(tmp_path / "nowhere.jsonl")


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no telemetry.jsonl; give the .jsonl file itself; .* --watch"):
        dcao.plot(tmp_path)


def test_a_folder_of_runs_is_refused_with_the_name_of_one(tmp_path):
    for name in ("first", "second"):
        write(tmp_path / name / RUN_FILE, RECORDS)
    with pytest.raises(FileNotFoundError, match=r"give the folder of one run, such as .*first$"):
        dcao.plot(tmp_path)


def test_a_file_that_has_no_record_yet_is_refused(tmp_path):
    (tmp_path / "run.jsonl").write_text('{"step": 0, "lo')
    with pytest.raises(ValueError, match=r"run.jsonl must have at least one whole record, and has none; the first"):
        dcao.plot(tmp_path / "run.jsonl")


def test_another_jsonl_is_refused_with_its_line(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 0}) + "\n")
    with pytest.raises(ValueError, match=r"metrics.jsonl, line 1 is no record of DCAO"):
        dcao.plot(tmp_path / "metrics.jsonl")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "steps.parquet").write_bytes(b"PAR1\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"steps.parquet is no text; give the file that the recorder writes"):
        dcao.plot(tmp_path / "steps.parquet")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"panels": "s"}, TypeError, r"panels must be a list of some of loss, lr, .* got the name 's'; write"),
        ({"panels": ["s", "sharpness"]}, ValueError, r"got 'sharpness'; leave it out for all that there are"),
        ({"panels": []}, ValueError, r"got \[\]; leave it out"),
        ({"panels": ["s", "s"]}, ValueError, r"each once, got \['s', 's'\]; leave out what is there twice"),
        ({"panels": ["density"]}, ValueError, r"panel 'density' must have a finite value .* none in 3 .*; pass dens"),
        ({"panels": ["preconditioned"]}, ValueError, r"none in 3 records; DCAO\(..., spectrum_every=50\) or measure="),
        ({"densities": [1]}, TypeError, r"densities must map steps to a dcao.SpectralDensity each, got list; dens"),
        ({"densities": {"a": 1}}, TypeError, r"got the step 'a'; densities={step: density}"),
        ({"densities": {3: 1}}, TypeError, r"got int at step 3; dcao.spectral_density\(...\) gives one"),
        ({"policy": policies.Fixed}, TypeError, r"policy must be a dcao.Policy, got the class Fixed; call it"),
        ({"policy": 0.1}, TypeError, r"policy must be a dcao.Policy, got float; optimizer.policy is one"),
    ],
    ids=str,
)
def test_a_wrong_option_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        dcao.plot(RECORDS, **options)


def test_densities_without_any_eigenvalue_are_refused():
    weights = torch.ones(2, requires_grad=True)
    bad = dcao.spectral_density(lambda: weights.square().sum() * math.nan, [weights], num_steps=2)
    with pytest.raises(ValueError, match=r"that has a finite eigenvalue, got none in 1; their status says why"):
        dcao.plot(RECORDS, densities={0: bad})


def test_no_records_at_all_are_refused():
    with pytest.raises(ValueError, match=r"there must be a finite value to show, and there is none in 0 records"):
        dcao.plot([])


# --- what it marks


def marks(figure) -> dict[str, list[float]]:
    """Steps by the name of the mark, off the lines of the first panel."""
    first = figure.axes[0]
    return {lines.get_label(): [segment[0][0] for segment in lines.get_segments()] for lines in first.collections}


def loss(net, x, factor, offset):
    return factor * nn.functional.cross_entropy(net(x), x[:, :3].argmax(1)) + offset


def train(policy=None, *, guard=None, num_steps=60, poisoned=(), blows_up=(), offset=lambda step: 0.0):
    """Records of a real run whose loss is nan, or whose weights are, at some steps."""
    generator, recorder = torch.Generator().manual_seed(0), MemoryRecorder()
    net = nn.Linear(6, 3)
    with torch.no_grad():
        for param in net.parameters():
            param.copy_(torch.randn(param.shape, generator=generator))
    optimizer = DCAO(optim.AdamW(net.parameters(), lr=1e-3), policy=policy, guard=guard, recorder=recorder)
    for step in range(num_steps):
        x = torch.randn(32, 6, generator=generator)
        if step in blows_up:
            with torch.no_grad():
                net.weight.mul_(math.nan)
        factor = math.nan if step in poisoned else 1.0
        optimizer.minimize(partial(loss, net, x, factor, offset(step)))
    return recorder.records, optimizer


def test_the_end_of_the_rise_is_marked_where_the_policy_says_so():
    records, _ = train()
    expected = [record.step for record in records if record.decision.reason.startswith("arrived: ")]
    assert len(expected) == 1
    assert marks(dcao.plot(records)) == {"arrived": expected}


def test_skipped_steps_are_marked():
    records, optimizer = train(policies.Fixed(), guard=True, poisoned=(7, 20))
    assert optimizer.num_skipped == 2
    assert marks(dcao.plot(records)) == {"skipped": [7, 20]}


def test_a_run_that_blew_up_is_marked_where_it_was_restored():
    records, optimizer = train(policies.Fixed(), guard=Guard(snapshot_every=5), blows_up=(30,))
    assert (optimizer.num_restored, optimizer.num_skipped) == (1, 7)
    found = marks(dcao.plot(records))
    assert found["skipped"] == [30, 31, 32, 33, 34, 35]
    assert found["restored"] == [36]


@pytest.mark.parametrize(("guard", "name"), [(None, "turned back"), (Guard(snapshot_every=None), "loss turned up")])
def test_a_loss_that_turns_up_is_marked(guard, name):
    limitless = policies.Ceiling(target=1e9, max_relative_step=1e9)
    records, _ = train(limitless, guard=guard, num_steps=90, offset=lambda step: 3.0 * abs(step - 30))
    expected = [record.step for record in records if record.turned_at is not None]
    assert len(expected) == 1
    assert marks(dcao.plot(records))[name] == expected


def decided(step: int, reason: str, **changes) -> StepRecord:
    return replace(RECORDS[0], step=step, decision=replace(RECORD.decision, reason=reason), **changes)


def of_the_guard(step: int, reason: str, **changes) -> StepRecord:
    return decided(step, reason, estimate=None, observation=None, **changes)


EVENTFUL = [
    *RECORDS,
    decided(10, f"arrived: {CEILING}"),
    of_the_guard(11, SKIP),
    of_the_guard(12, BACK, turned_at=0.1),
    of_the_guard(13, BACK),
    of_the_guard(14, BACK),
    decided(990, "arrived: " + CEILING),
    decided(1000, "under the ceiling: " + CEILING),
]


def test_a_mark_is_named_with_how_often_it_is_there():
    figure = dcao.plot(EVENTFUL)
    names = {text.get_text() for text in figure.axes[0].texts}
    assert names == {"arrived 2 times", "skipped", "turned back", "restored 2 times"}
    assert all("arrived" in {lines.get_label() for lines in axes.collections} for axes in figure.axes)


def test_no_two_texts_of_a_picture_lie_on_each_other():
    weights = torch.ones(4, requires_grad=True)
    density = dcao.spectral_density(lambda: weights.square().sum(), [weights], num_steps=3)
    figure = dcao.plot(EVENTFUL, densities={0: density, 900: density})
    figure.savefig(io.BytesIO())
    for axes in figure.axes:
        texts = [axes.yaxis.label, *axes.texts, *tick_labels(axes.xaxis), *tick_labels(axes.yaxis)]
        boxes = [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]
        for box in boxes:
            assert box.x0 >= 0.0
            assert box.x1 <= figure.bbox.x1
            assert box.y1 <= figure.bbox.y1
        assert not [pair for pair in itertools.combinations(boxes, 2) if pair[0].overlaps(pair[1])]


def tick_labels(axis):
    """Those that are drawn: a locator has ticks beyond the axis too."""
    low, high = axis.get_view_interval()
    return [
        tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high and tick.label1.get_visible()
    ]


NUMBERS = [None, math.nan, math.inf, -math.inf, 0.0, -0.0, 5e-324, 1e308, -1e308, 1.0, -2.0, 3.0]


@pytest.mark.parametrize("seed", range(8))
def test_any_numbers_can_be_drawn(seed):
    """Infinities, gaps, the ends of float64, and both signs: no error and no warning, and the axes have ends."""
    draw, records = random.Random(seed), []
    usual = draw.sample(NUMBERS[4:], k=2)  # so that some panels have few kinds of numbers, and some have all
    for step in range(12):
        loss, s = (draw.choice(NUMBERS if seed % 2 else usual) for _ in range(2))
        measured = {"s": s, "relative_step": loss, "ritz_values": (loss or 0.0, s or 0.0), "smallest": s}
        estimate = replace(RECORD.estimate, measure="hessian", **measured)
        lr = draw.choice([0.0, 5e-324, 1.0, 1e308])
        records.append(replace(RECORD, step=step, loss=loss, estimate=estimate, after=replace(RECORD.after, lr=lr)))
    figure = dcao.plot(records)
    figure.savefig(io.BytesIO())
    assert all(math.isfinite(end) for axes in figure.axes for end in axes.get_ylim())


# --- what it leaves behind


def test_it_knows_no_pyplot_and_needs_no_screen(tmp_path):
    file = write(tmp_path / "run.jsonl", RECORDS)
    picture = tmp_path / "run.png"
    code = "import sys, dcao; dcao.plot(sys.argv[1]).savefig(sys.argv[2]); print('matplotlib.pyplot' in sys.modules)"
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "MPLBACKEND")}
    done = subprocess.run(
        [sys.executable, "-c", code, file, picture], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == "False"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_it_leaves_matplotlibs_settings_alone():
    before = dict(mpl.rcParams)
    assert isinstance(dcao.plot(RECORDS), Figure)
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_every_format_can_be_written(kind):
    file = io.BytesIO()
    dcao.plot(EVENTFUL).savefig(file, format=kind)
    assert len(file.getvalue()) > 1000


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("matplotlib", "dcao.plotting.drawing"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"dcao.plot needs matplotlib, .* extra plot .*pip install '.\[plot\]'"):
        dcao.plot(RECORDS)


def test_its_inks_are_those_of_the_labs_papers():
    papers = {color.paper for color in (*COLORS, GREY)}
    assert {*INKS.values(), MARK_INK} <= papers
