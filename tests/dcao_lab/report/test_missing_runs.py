from dcao_lab.report.tables.runs import missing
from dcao_lab.study.result import Absence, StudyResult
from helpers.report_studies import ADAMW, SGD, planned, study


def test_missing_runs_of_one_reason_are_one_row():
    runs = (planned(SGD, 7), planned(SGD, 8), planned(ADAMW, 7))
    reason = Absence(is_failure=False, reason="sgd knows no such workload")
    absences = {run.config.fingerprint(): reason for run in runs[:2]}
    rows = missing(StudyResult(study=study(SGD, ADAMW), runs=(), missing=runs, absences=absences)).rows
    assert [tuple(row[2:]) for row in rows] == [
        (SGD.title, "2", "sgd knows no such workload"),
        (ADAMW.title, "1", "not done yet"),
    ]
