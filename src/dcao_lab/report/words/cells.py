"""The sentence on the table of cells."""

from dcao_lab.report import formats
from dcao_lab.report.analysis.cells import ArmCells
from dcao_lab.report.numbers import Numbers


def verdict(numbers: Numbers) -> str:
    """In how many cells each arm of DCAO is within the goal, and the best of the others; empty without cells."""
    own = [one for one in numbers.cells if one.is_wrapped]
    others = [one for one in numbers.cells if not one.is_wrapped and one.num_cells]
    said = [f"{numbers.title(one.arm)} {_counted(one)}" for one in own]
    if own and others:
        said.append(_best_other(numbers, max(others, key=lambda one: (one.num_within, one.num_whole))))
    return f"Cells within the goal of a sweep, with one run that nobody tuned: {'; '.join(said)}." if said else ""


def in_short(numbers: Numbers) -> str:
    """The same in one short sentence, for what has the rest beside it."""
    own = [one for one in numbers.cells if one.is_wrapped and one.num_cells]
    others = [one for one in numbers.cells if not one.is_wrapped and one.num_cells]
    if not own:
        return verdict(numbers) or "No cell can be judged yet."
    said = formats.listed(
        [f"{one.num_within} of {one.num_cells} comparisons with {numbers.title(one.arm)}" for one in own]
    )
    best = max(others, key=lambda one: (one.num_within, one.num_whole), default=None)
    rest = f"; the best without DCAO, {numbers.title(best.arm)}, in {best.num_within}" if best else ""
    workloads = formats.counted(len(numbers.view.study.tasks), "workload")
    return f"One run that nobody tuned matched the best of a sweep in {said}, on {workloads}{rest}."


def _counted(one: ArmCells) -> str:
    if not one.num_cells:
        return f"none that counts yet ({one.num_open} open)"
    still_open = f" ({one.num_open} open)" if one.num_open else ""
    return f"{one.num_within} of {one.num_cells}{still_open}, {one.num_whole} of {one.num_tasks} workloads whole"


def _best_other(numbers: Numbers, one: ArmCells) -> str:
    best = f"the best without DCAO, {numbers.title(one.arm)}, {_counted(one)}"
    duel = next((duel for duel in numbers.head_to_heads if duel.other == one.arm), None)
    if duel is None or not (duel.ahead or duel.level or duel.behind):
        return best
    return (
        f"{best}; head to head with that {numbers.title(duel.arm)} is ahead on {len(duel.ahead)}, level on "
        f"{len(duel.level)} and behind on {len(duel.behind)}"
    )
