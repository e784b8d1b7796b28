"""Logs that come back as they were written, survive a kill, and explain themselves by replay."""

from __future__ import annotations

import copy
import json
import math
import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, optim

from dcao import (
    DCAO,
    JsonlRecorder,
    LanczosStatus,
    MemoryRecorder,
    StepRecord,
    policies,
    read_jsonl,
    replay,
)
from helpers.cases import NETWORKS
from helpers.records import ESTIMATE, GUARD, RECORD


def text(record: StepRecord) -> str:
    return repr(record)  # nan != nan, but their names are


def written(path: Path, *records: StepRecord) -> Path:
    recorder = JsonlRecorder(path)
    for record in records:
        recorder.record(record)
    return path


# --- JSON lines


@pytest.mark.parametrize("record", [RECORD, GUARD], ids=["probe", "guard"])
def test_a_record_comes_back_from_jsonl_as_it_was(tmp_path, record):
    (back,) = read_jsonl(written(tmp_path / "folder" / "log.jsonl", record))
    assert text(back) == text(record)


def test_a_log_is_strict_json_one_line_a_record(tmp_path):
    lines = written(tmp_path / "log.jsonl", RECORD, GUARD).read_text(encoding="utf-8").split("\n")
    assert lines[-1] == ""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    plain = [json.loads(line, parse_constant=refuse) for line in lines[:-1]]
    assert [row["step"] for row in plain] == [3, 4]
    assert plain[0]["estimate"]["s"] == "inf"
    assert plain[0]["estimate"]["status"] == "MAX_STEPS"


ANY = st.floats(allow_nan=True, allow_infinity=True)


@given(ANY, st.none() | ANY, st.lists(ANY, max_size=3), st.sampled_from([None, *LanczosStatus]), st.text())
def test_any_numbers_and_words_come_back(loss, s, ritz_values, status, reason):
    estimate = replace(ESTIMATE, loss=loss, s=s, ritz_values=tuple(ritz_values), status=status, reason=reason)
    record = replace(RECORD, estimate=estimate, loss=loss)
    back = StepRecord.from_dict(json.loads(json.dumps(record.to_dict(), allow_nan=False)))
    assert text(back) == text(record)


@pytest.mark.parametrize("word", ["nan", "inf", "-inf"])
def test_a_reason_that_reads_like_a_number_stays_a_word(word):
    record = replace(RECORD, decision=replace(RECORD.decision, reason=word))
    assert StepRecord.from_dict(record.to_dict()).decision.reason == word


@pytest.mark.parametrize("kept", [1, 40, -2])
def test_a_last_line_cut_short_by_a_kill_is_left_out(tmp_path, kept):
    path = written(tmp_path / "log.jsonl", RECORD, GUARD, RECORD)
    *whole, last = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(whole) + last[:kept], encoding="utf-8")
    assert [record.step for record in read_jsonl(path)] == [3, 4]


@pytest.mark.parametrize("kept", [1, 40, -2])
def test_a_resumed_run_goes_on_after_a_line_cut_short(tmp_path, kept):
    path = written(tmp_path / "log.jsonl", RECORD, GUARD)
    first, last = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text(first + last[:kept], encoding="utf-8")
    written(path, replace(RECORD, step=5), replace(RECORD, step=6))
    assert [record.step for record in read_jsonl(path)] == [3, 5, 6]


def test_a_resumed_run_keeps_a_last_line_that_lacks_nothing_but_its_end(tmp_path):
    path = written(tmp_path / "log.jsonl", RECORD, GUARD)
    path.write_text(path.read_text(encoding="utf-8").rstrip("\n"), encoding="utf-8")
    written(path, replace(RECORD, step=5))
    assert [record.step for record in read_jsonl(path)] == [3, 4, 5]


@pytest.mark.parametrize("line", ["{]", '{"step": 3}', "[1, 2]", '"text"', ""])
def test_a_corrupt_line_in_the_middle_is_refused_with_its_number(tmp_path, line):
    path = written(tmp_path / "log.jsonl", RECORD, GUARD, RECORD)
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[1] = line
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"log.jsonl, line 2 is no record of DCAO"):
        read_jsonl(path)


def test_a_corrupt_last_line_that_is_whole_is_no_accident_and_refused_too(tmp_path):
    path = written(tmp_path / "log.jsonl", RECORD)
    path.write_text(path.read_text(encoding="utf-8") + "{]\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"log.jsonl, line 2 is no record of DCAO"):
        read_jsonl(path)


def test_a_recorder_can_be_copied_and_pickled(tmp_path):
    for recorder in (JsonlRecorder(tmp_path / "log.jsonl"), MemoryRecorder()):
        for twin in (copy.deepcopy(recorder), pickle.loads(pickle.dumps(recorder))):
            twin.record(RECORD)
    assert len(read_jsonl(tmp_path / "log.jsonl")) == 2


# --- replay


def full_rules() -> policies.Policy:
    return policies.Compose(policies.LearningRate(1.2), policies.Momentum(0.1), policies.WeightDecay(0.1, anchor=0.0))


POLICIES = {
    "default": None,
    "fixed": policies.Fixed(),
    "learning_rate": policies.LearningRate(1.0),
    "smoothed": policies.Smoothed(policies.LearningRate(1.2), window=5),
    "composed": full_rules(),
    "smoothed_composed": policies.Smoothed(full_rules()),
}
DEFAULT = policies.Ceiling()


def real_run(path: Path, policy: policies.Policy | None, num_steps: int = 40) -> None:
    """Training on ragged batches; two of its steps are skipped by the guard."""
    problem = NETWORKS["mlp"].problem(torch.float32)
    base = optim.AdamW(problem.params, lr=1e-3, weight_decay=0.05)
    optimizer = DCAO(base, policy=policy, every=3, recorder=JsonlRecorder(path), guard=True)
    batches = [slice(0, 2), slice(2, 5), slice(5, 7)]

    def loss(step: int) -> Tensor:
        value = problem.loss(batches[step % 3])
        return value * math.nan if step in (7, 20) else value

    for step in range(num_steps):
        optimizer.minimize(partial(loss, step))


@pytest.mark.parametrize("name", POLICIES)
def test_the_policy_that_wrote_a_log_decides_the_same_on_replay(tmp_path, name):
    path = tmp_path / "log.jsonl"
    real_run(path, POLICIES[name])
    records = read_jsonl(path)
    decided = [record for record in records if record.observation is not None]
    assert [record.step for record in records if record.observation is None] == [7, 20]
    assert len(decided) >= 12
    decisions = replay(path, POLICIES[name] or DEFAULT)
    assert [d.hyperparameters for d in decisions] == [r.decision.hyperparameters for r in decided]
    assert [d.probe_again for d in decisions] == [r.decision.probe_again for r in decided]
    # the controller may add to the reason what stood in the way of carrying it out
    assert all(r.decision.reason.startswith(d.reason) for d, r in zip(decisions, decided, strict=True))


def test_another_policy_decides_otherwise_on_the_same_observations(tmp_path):
    path = tmp_path / "log.jsonl"
    real_run(path, None)
    own, other = (replay(path, policy) for policy in (DEFAULT, policies.LearningRate(0.01)))
    assert len(own) == len(other)
    assert [d.hyperparameters.lr for d in own] != [d.hyperparameters.lr for d in other]
    seen = [record.observation for record in read_jsonl(path) if record.observation is not None]
    assert [d.hyperparameters for d in replay(path, policies.Fixed())] == [o.hyperparameters for o in seen]


def test_a_replay_takes_records_as_well_as_a_path(tmp_path):
    path = tmp_path / "log.jsonl"
    real_run(path, None, num_steps=12)
    assert replay(read_jsonl(path), DEFAULT) == replay(path, DEFAULT) == replay(str(path), DEFAULT)


def test_a_log_of_guard_records_alone_replays_to_nothing():
    assert replay([GUARD, GUARD], DEFAULT) == []
