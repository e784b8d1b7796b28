import pytest

from dcao_lab.store import RunStore
from lab_runs import demo_like_configs, finish


@pytest.fixture(scope="session")
def stored_runs(tmp_path_factory):
    return finish(RunStore(tmp_path_factory.mktemp("runs")), *demo_like_configs())
