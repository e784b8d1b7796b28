import json
import re

import pytest

from dcao_lab.errors import LabError
from dcao_lab.store import RunState, RunStore, damage
from lab_runs import finish, small_config


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


def test_a_run_is_there_only_when_its_block_has_ended(store):
    config = small_config()
    with store.writing(config) as folder:
        fill(folder)
        assert store.state(config) is RunState.MISSING
    assert store.state(config) is RunState.FINISHED


def test_a_run_that_fails_leaves_nothing(store):
    config = small_config()
    with pytest.raises(ZeroDivisionError), store.writing(config):
        _ = 1 / 0
    assert store.state(config) is RunState.MISSING
    assert store.sweep() == 0


def test_the_first_of_two_equal_runs_stands(store):
    config = small_config()
    with store.writing(config) as late:
        fill(late, "late")
        with store.writing(config) as early:
            fill(early, "early")
    assert (store.folder(config) / "result.json").read_text() == '"early"'


DAMAGES = {
    "a file is gone": (lambda folder: (folder / "metrics.jsonl").unlink(), "metrics.jsonl missing"),
    "a file is cut": (
        lambda folder: (folder / "result.json").write_text(""),
        "result.json differs from what was written",
    ),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), r"manifest.json cannot be read \(FileNotFound"),
    "half a manifest": (
        lambda folder: (folder / "manifest.json").write_text("{"),
        r"cannot be read \(JSONDecodeError\)",
    ),
    "manifest of another kind": (
        lambda folder: (folder / "manifest.json").write_text("[1]"),
        r"cannot be read \(TypeError\)",
    ),
    "bytes that are no text": (lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe"), "cannot be read"),
}


@pytest.mark.parametrize(("do", "words"), DAMAGES.values(), ids=DAMAGES)
def test_damage_is_found_and_said(store, do, words):
    config = small_config()
    with store.writing(config) as folder:
        fill(folder)
    do(store.folder(config))
    assert store.state(config) is RunState.DAMAGED
    assert re.search(words, damage(store.folder(config), config))


def test_a_damaged_run_is_moved_aside_and_not_deleted(store):
    config = small_config()
    with store.writing(config) as folder:
        fill(folder)
    (store.folder(config) / "result.json").write_text("precious")
    place = store.set_aside_damaged(config)
    assert (place / "result.json").read_text() == "precious"
    assert store.state(config) is RunState.MISSING


def test_only_one_process_at_a_time_may_work_in_a_store(store):
    with (
        store.exclusive(),
        pytest.raises(LabError, match=r"another dcao-lab is at work in .*; wait for it"),
        RunStore(store.root).exclusive(),
    ):
        pass
    with store.exclusive():
        pass


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match=r"cannot make the folder .*file.* for runs: Not a directory; give another one"):
        RunStore(tmp_path / "file" / "runs")


def test_hostile_names_stay_inside_the_store(store):
    folder = store.folder(small_config(workload="../../<b>x", optimizer="a/b\0"))
    assert folder.parent == store.root


def test_a_config_file_of_another_run_is_damage(store):
    config, other = small_config(), small_config(seed=1)
    finish(store, config)
    store.folder(config).rename(store.folder(other))
    assert damage(store.folder(other), other) == "config.json is of another run"


def fill(folder, text="x"):
    for name in ("metrics.jsonl", "steps.parquet", "result.json", "timing.json", "provenance.json"):
        (folder / name).write_text(json.dumps(text))
