"""The page of a study: one HTML file that works from disk, the JSON with its numbers, and tables for programs."""

from dcao_lab.report.html.page import write_study_report

__all__ = ["write_study_report"]
