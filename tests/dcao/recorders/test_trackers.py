"""What trackers of experiments are given, read back from what the real packages have written."""

from __future__ import annotations

import builtins
import copy
import json
import math
import pickle
import sqlite3
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dcao import DCAO, MemoryRecorder, Recorder, TensorBoardRecorder, TrackioRecorder, WandbRecorder
from helpers import wandb_files
from helpers.records import ESTIMATE, GUARD, RECORD

STEPS = 30


def train(recorder: Recorder, after_step=lambda step, loss: None) -> tuple[list[float], torch.Tensor]:
    torch.manual_seed(0)
    model, x, y = torch.nn.Linear(4, 1), torch.randn(64, 4), torch.randn(64, 1)
    optimizer = DCAO(torch.optim.AdamW(model.parameters(), lr=1e-3), recorder=recorder)
    losses = []
    for step in range(STEPS):
        losses.append(float(optimizer.minimize(lambda: torch.nn.functional.mse_loss(model(x), y))))
        after_step(step, losses[-1])
    return losses, model.weight.detach().clone()


@pytest.fixture(scope="module")
def truth() -> tuple[list[float], torch.Tensor, list[dict]]:
    """Losses, weights and what the same training records in memory."""
    memory = MemoryRecorder()
    losses, weight = train(memory)
    rows = [
        {
            "dcao/lr": record.after.lr,
            "dcao/momentum": record.after.momentum,
            "dcao/weight_decay": record.after.weight_decay,
            "dcao/loss": record.loss,
            "dcao/s": record.estimate.s,
            "dcao/trust": record.estimate.trust,
            "dcao/stability/load": record.estimate.stability["load"],
            "dcao/stability/batch": record.estimate.stability["batch"],
            "dcao/total_cost": record.total_cost,
            "dcao/reason": record.decision.reason,
            "step": record.step,
        }
        for record in memory.records
    ]
    assert len(rows) >= 3
    return losses, weight, rows


# --- TensorBoard


def test_tensorboard_events_hold_the_numbers_and_the_reasons(tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    recorder = TensorBoardRecorder(tmp_path)
    recorder.record(replace(RECORD, estimate=replace(ESTIMATE, s=1.25), loss=0.5))
    pickle.loads(pickle.dumps(recorder)).record(replace(GUARD, loss=0.25))
    events = event_accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    expected = {"dcao/lr", "dcao/s", "dcao/loss", "dcao/sharpness", "dcao/stability/hessian"}
    assert expected <= set(events.Tags()["scalars"])
    assert "dcao/momentum" not in events.Tags()["scalars"]  # there is none
    assert [(e.step, e.value) for e in events.Scalars("dcao/loss")] == [(3, 0.5), (4, 0.25)]
    assert [(e.step, e.value) for e in events.Scalars("dcao/s")] == [(3, 1.25)]
    (text_tag,) = [tag for tag in events.Tags()["tensors"] if tag.startswith("dcao/reason")]
    assert events.Tensors(text_tag)[0].tensor_proto.string_val[0] == b"s inf against target 1.5"


def test_without_tensorboard_the_recorder_says_what_to_install(tmp_path, monkeypatch):
    real_import = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"needs the package tensorboard: pip install tensorboard"):
        TensorBoardRecorder(tmp_path)


# --- Weights & Biases


@pytest.fixture
def wandb_run(tmp_path, monkeypatch):
    """A run that stays on this machine."""
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for kind in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{kind}_DIR", str(tmp_path / kind))
    settings = wandb.Settings(console="off", x_disable_stats=True, disable_git=True, save_code=False)
    with wandb.init(project="test", mode="offline", dir=tmp_path, settings=settings) as run:
        yield run


@pytest.fixture(scope="module", autouse=True)
def no_service_stays():
    yield
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()


def wandb_rows(run, folder: Path) -> list[dict]:
    run.finish()
    sys.modules["wandb"].teardown()  # waits until the service has written everything
    return wandb_files.rows(folder)


def of_dcao(rows: list[dict]) -> list[dict]:
    """What DCAO has written, as the rows of ``truth``."""
    own = [{name: value for name, value in row.items() if name.startswith("dcao/")} for row in rows]
    return [{"step" if name == "dcao/step" else name: value for name, value in row.items()} for row in own if row]


OWN_ROWS = {
    "none": lambda run: lambda step, loss: None,
    "without a step": lambda run: lambda step, loss: run.log({"loss": loss}),
    "with the step": lambda run: lambda step, loss: run.log({"loss": loss}, step=step),
    "two a step": lambda run: lambda step, loss: [run.log({"loss": loss}), run.log({"accuracy": 1.0})],
}


@pytest.mark.parametrize("own", OWN_ROWS)
def test_wandb_has_every_probe_at_its_step_and_no_row_of_the_callers_is_lost(own, wandb_run, tmp_path, truth):
    losses, weight = train(WandbRecorder(wandb_run), OWN_ROWS[own](wandb_run))
    rows = wandb_rows(wandb_run, tmp_path)
    assert of_dcao(rows) == truth[2]
    assert [row["loss"] for row in rows if "loss" in row] == ([] if own == "none" else losses)
    assert (losses, weight.tolist()) == (truth[0], truth[1].tolist())
    if own == "with the step":
        assert [row["_step"] for row in rows] == list(range(STEPS))


def test_wandb_curves_have_the_optimizer_step_as_their_axis(wandb_run, monkeypatch):
    defined = []
    monkeypatch.setattr(wandb_run, "define_metric", lambda name, step_metric: defined.append((name, step_metric)))
    recorder = WandbRecorder()
    for record in (RECORD, GUARD):
        recorder.record(record)
    assert defined == [("dcao/*", "dcao/step")]


def test_wandb_takes_numbers_that_are_not_finite(wandb_run, tmp_path):
    WandbRecorder(wandb_run).record(RECORD)
    (row,) = wandb_rows(wandb_run, tmp_path)
    assert math.isinf(float(row["dcao/s"]))
    assert "dcao/loss" not in row  # it is not known


def test_copies_of_a_wandb_recorder_write_into_the_same_run(wandb_run, tmp_path):
    recorder = WandbRecorder(wandb_run)
    recorder.record(RECORD)
    copy.deepcopy(recorder).record(replace(RECORD, step=5))
    pickle.loads(pickle.dumps(recorder)).record(replace(RECORD, step=7))  # the active run is that one
    assert [row["dcao/step"] for row in wandb_rows(wandb_run, tmp_path)] == [3, 5, 7]


# --- trackio


@pytest.fixture
def trackio_run(tmp_path, monkeypatch):
    """A run in a database of this test's own."""
    trackio = pytest.importorskip("trackio")
    for name, module in list(sys.modules.items()):  # each has copied the folder when it was imported
        if name.split(".")[0] == "trackio" and hasattr(module, "TRACKIO_DIR"):
            monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path)
    run = trackio.init(project="test", name="first", auto_log_cpu=False, auto_log_gpu=False, embed=False)
    yield run
    trackio.context_vars.current_run.set(None)
    run.finish()


def trackio_rows(run, folder: Path) -> list[dict]:
    run.finish()
    with sqlite3.connect(folder / "test.db") as database:
        found = database.execute("select metrics, step from metrics order by id").fetchall()
    database.close()
    return [{**json.loads(metrics), "step": step} for metrics, step in found]


def test_trackio_has_every_probe_at_its_step_and_every_row_of_the_callers(trackio_run, tmp_path, truth):
    losses, weight = train(TrackioRecorder(trackio_run), lambda step, loss: trackio_run.log({"loss": loss}, step=step))
    rows = trackio_rows(trackio_run, tmp_path)
    assert [row for row in rows if "dcao/lr" in row] == truth[2]
    assert [row["loss"] for row in rows if "loss" in row] == losses
    assert (losses, weight.tolist()) == (truth[0], truth[1].tolist())


def test_copies_of_a_trackio_recorder_write_into_the_same_run(trackio_run, tmp_path):
    recorder = TrackioRecorder(trackio_run)
    recorder.record(RECORD)
    copy.deepcopy(recorder).record(replace(RECORD, step=5))
    pickle.loads(pickle.dumps(recorder)).record(replace(RECORD, step=7))  # the active run is that one
    rows = trackio_rows(trackio_run, tmp_path)
    assert [row["step"] for row in rows] == [3, 5, 7]
    assert math.isinf(float(rows[0]["dcao/s"]))


# --- no run


@pytest.mark.parametrize(("recorder", "start"), [(WandbRecorder, "wandb.init"), (TrackioRecorder, "trackio.init")])
@pytest.mark.parametrize("is_imported", [False, True])
def test_without_a_run_one_warning_says_how_to_start_one_and_the_training_goes_on(
    recorder, start, is_imported, monkeypatch, truth
):
    package = start.split(".")[0]
    if is_imported:
        pytest.importorskip(package)
    else:
        monkeypatch.delitem(sys.modules, package, raising=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        losses, _ = train(recorder())
    (message,) = (str(each.message) for each in caught)
    assert f"the recorder failed, and this record is lost: RuntimeError: no run is active: call {start}(...)" in message
    assert losses == truth[0]
