"""A run is found wherever its folder is: under way, finished, interrupted, or not begun."""

import pytest

from dcao_lab.config import RunConfig
from dcao_lab.runs.store import RunStore
from dcao_lab.watching.places import Place, place_of

CONFIG = RunConfig(workload="digits_mlp", optimizer="dcao:adamw", lr=1e-3, seed=0, num_steps=9, eval_every=3)


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


@pytest.mark.parametrize("name", ["log.jsonl", "no/log.jsonl"])
def test_a_log_is_itself_also_before_it_is_there_and_is_never_over(tmp_path, name):
    path = tmp_path / name
    assert place_of(path) == Place(path=path, log=path)


def test_a_run_is_followed_from_its_temporary_folder_to_its_own(store):
    with store.writing(CONFIG) as folder:
        under_way = place_of(store.folder(CONFIG))
        assert under_way == Place(path=folder, log=folder / "telemetry.jsonl")
        assert place_of(store.root) == place_of(folder) == under_way
        assert place_of(under_way.log).log == under_way.log
        (folder / "manifest.json").write_text("{}")
        assert not place_of(folder).is_over  # the folder is about to be moved, and its log with it
    own = store.folder(CONFIG)
    for path in (own, folder, under_way.log):
        assert place_of(path) == Place(path=own, log=own / "telemetry.jsonl", is_over=True)
    (own / "telemetry.jsonl").touch()
    assert place_of(own / "telemetry.jsonl").is_over


def test_a_run_that_was_interrupted_and_began_again_is_found_again(store):
    with pytest.raises(KeyboardInterrupt), store.writing(CONFIG) as first:
        raise KeyboardInterrupt
    assert place_of(first) == Place(path=first, log=first / "telemetry.jsonl")
    with store.writing(CONFIG) as second:
        assert place_of(first).path == second


def test_a_folder_where_no_run_is_under_way_is_waited_for(store):
    with store.writing(CONFIG):
        pass
    assert place_of(store.root) == Place(path=store.root, log=store.root / "telemetry.jsonl")
