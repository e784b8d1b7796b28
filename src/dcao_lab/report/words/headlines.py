"""What happened, in sentences made from the numbers."""

from dcao_lab.report.numbers import Numbers
from dcao_lab.report.words import cells, comparing, measured


def headlines(numbers: Numbers) -> list[str]:
    """The most important sentences: who won, against what, how certainly, how fast, from where, at what cost."""
    sentences = [
        cells.verdict(numbers),
        *comparing.untuned(numbers),
        comparing.winners(numbers),
        *comparing.against_references(numbers),
        comparing.against_the_best(numbers),
        comparing.speed(numbers),
        *measured.robustness(numbers),
        measured.edge(numbers),
        *measured.generalisation(numbers),
        measured.cost(numbers),
        measured.certainty(numbers),
    ]
    return [sentence for sentence in sentences if sentence] or [
        "No comparison can be made of the runs that are there yet."
    ]
