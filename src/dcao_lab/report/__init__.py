"""The report of a study: one HTML page that works from disk, the JSON with its numbers, and tables."""

from dcao_lab.report.build import write_study_report

__all__ = ["write_study_report"]
