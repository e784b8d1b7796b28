"""What a figure of many arms leaves out, in a sentence."""

from dcao_lab.report.numbers import Numbers


def rule(numbers: Numbers) -> str:
    """Which arms a crowded figure shows, of how many; empty where that is all."""
    shown, total = len(numbers.leading), len(numbers.view.study.arms)
    if shown == total:
        return ""
    return (
        f"{shown} of {total} arms: those that others are compared with, each with the best that DCAO makes of it, and "
        "the best by mean rank"
    )


def on_paper(numbers: Numbers) -> str:
    """The rule for a figure that cannot be asked for more, and where the others are."""
    if not rule(numbers):
        return ""
    return f"Shown are {rule(numbers)}. The others are on the page, and in its runs.parquet and evaluations.parquet."
