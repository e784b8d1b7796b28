import pytest

from dcao_lab.report.html import write_study_report
from dcao_lab.runs.store import RunStore
from helpers.report_studies import real_study


@pytest.fixture(scope="session")
def study_result(tmp_path_factory):
    return real_study(RunStore(tmp_path_factory.mktemp("runs")))


@pytest.fixture(scope="session")
def report(study_result, tmp_path_factory):
    return write_study_report(study_result, tmp_path_factory.mktemp("report"))[0]
