import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dcao_lab.errors import LabError
from dcao_lab.execution.executors import LocalExecutor
from dcao_lab.runs.runner import RunResult
from dcao_lab.runs.store import RunState, RunStore, damage
from helpers import TESTS
from helpers.lab_runs import finish, small_config


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
    place = store.replace_damaged(config).partition("is now in ")[2].removesuffix(")")
    assert (Path(place) / "result.json").read_text() == "precious"
    assert store.state(config) is RunState.MISSING


def test_a_run_has_one_claim_at_a_time_and_another_run_its_own(store):
    config = small_config()
    with store.claim(config):
        assert RunStore(store.root).claim(config) is None
        store.claim(small_config(seed=1)).close()
    RunStore(store.root).claim(config).close()


CLAIM_AND_SLEEP = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from dcao_lab.runs.store import RunStore
from helpers import TESTS
from helpers.lab_runs import small_config
claim = RunStore(Path(sys.argv[1])).claim(small_config())
print("claimed", flush=True)
time.sleep(60)
"""


def test_the_claim_of_a_killed_process_is_free_and_its_leftovers_are_swept(store):
    command = [sys.executable, "-c", CLAIM_AND_SLEEP, str(store.root), str(TESTS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "claimed\n"
        leftover = store._temporary(small_config())
        assert store.claim(small_config()) is None
        assert store.sweep() == 0
        assert leftover.exists()
        other.kill()
    store.claim(small_config()).close()
    assert store.sweep() == 1
    assert not leftover.exists()


def test_a_run_published_from_the_contents_of_its_files_is_whole(store):
    config = small_config()
    names = ("metrics.jsonl", "result.json", "timing.json", "provenance.json", "steps.parquet")
    store.publish(config, {name: name.encode() for name in names})
    assert store.state(config) is RunState.FINISHED
    assert (store.folder(config) / "steps.parquet").read_bytes() == b"steps.parquet"


def test_replacing_a_damaged_run_says_why_and_keeps_what_was_there(store):
    config = small_config()
    finish(store, config)
    assert store.replace_damaged(config) is None
    (store.folder(config) / "result.json").unlink()
    message = store.replace_damaged(config)
    assert message.startswith(f"{config.label} is done again: result.json missing (what was there is now in ")
    assert store.state(config) is RunState.MISSING


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 KB."""
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("may not mount a small disk here")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_disk_is_one_sentence_and_leaves_the_finished_runs_whole(small_disk):
    store = RunStore(small_disk)
    finish(store, small_config())
    with (
        pytest.raises(LabError, match=rf"cannot write to {small_disk}: No space left on device; make room there or"),
        store.writing(small_config(seed=1)) as folder,
    ):
        fill(folder, "x" * 100_000)
    assert store.state(small_config()) is RunState.FINISHED
    assert store.state(small_config(seed=1)) is RunState.MISSING
    assert not list((store.root / ".partial").iterdir())
    finish(store, small_config(seed=1))


def test_a_store_that_cannot_be_written_to_can_be_read_and_says_so_when_it_must_write(small_disk):
    store, outcomes = RunStore(small_disk), {}
    finish(store, small_config())
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    LocalExecutor(1).run_all([small_config()], store, outcomes.__setitem__)
    assert isinstance(outcomes[small_config()], RunResult)
    with pytest.raises(LabError, match=rf"cannot write to {small_disk}: Read-only file system; make room there or"):
        LocalExecutor(1).run_all([small_config(seed=1)], store, outcomes.__setitem__)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS], ids=errno.errorcode.get)
def test_what_the_disk_does_during_a_run_is_one_sentence(store, number):
    with (
        pytest.raises(LabError, match=rf"cannot write to {store.root}: {os.strerror(number)}; .* finished runs are"),
        store.writing(small_config()),
    ):
        raise OSError(number, os.strerror(number))


def test_a_missing_data_file_is_not_blamed_on_the_store(store, tmp_path):
    with pytest.raises(FileNotFoundError), store.writing(small_config()):
        (tmp_path / "data.txt").read_text()


def test_a_store_without_room_for_claims_is_one_sentence(store):
    (store.root / ".claims").write_text("")
    with pytest.raises(LabError, match=rf"cannot write to {store.root}: File exists; make room there or give another"):
        store.claim(small_config())


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
