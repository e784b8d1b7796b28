"""A study for a paper: its figures as PDF and PNG, its tables as LaTeX."""

from dcao_lab.report.paper.write import write_paper

__all__ = ["write_paper"]
