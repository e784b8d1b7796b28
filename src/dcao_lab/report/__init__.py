"""The report: one HTML page that works from disk, and the JSON with its numbers."""

from dcao_lab.report.build import write_report

__all__ = ["write_report"]
