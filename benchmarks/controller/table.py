"""The table of results: DCAO beside the best of the sweeps, and beside its peers."""

from __future__ import annotations

import math
from typing import Any

from arms import GIVEN_LR, PEERS
from records import results, summarise
from sweeps import SWEEP_SEEDS
from tasks import TASKS

Rows = list[dict[str, Any]]
HEADER = [
    "task",
    "base",
    "DCAO (seeds)",
    "its lr half way",
    "best constant @lr",
    "short",
    "best cosine @lr",
    "short",
    "within",
]
OPEN_ARMS = {
    "dcao-adamw-open": "AdamW, length unknown (averaged)",
    "dcao-sgd-open": "SGD, length unknown (averaged)",
}
GOALS = {"acc": (1.0, 2.0), "loss": (2.0, 4.0)}  # how short of the best constant and of the best cosine lr


def write_table(variant: str) -> str:
    """Both tables in Markdown."""
    rows, found = results(), {base: [] for base in GIVEN_LR}
    lines = head(HEADER)
    for name in TASKS:
        for base in GIVEN_LR:
            line = row_of([row for row in rows if row["task"] == name], name, base, variant)
            if line is not None:
                lines.append(line[0])
                found[base].append(line[1])
    counts = "; ".join(count(base, within) for base, within in found.items() if within)
    note = "Shortfalls in points or % of the loss, positive is worse. `!`: best lr at an end of the grid."
    return "\n".join([*lines, "", f"Within the goal: {counts}. {note}", "", *peer_table(rows, variant)])


def head(cells: list[str]) -> list[str]:
    return [f"| {' | '.join(cells)} |", "|" + "---|" * len(cells)]


def count(base: str, within: list[list[bool]]) -> str:
    constants, cosines = (sum(column) for column in zip(*within, strict=True))
    return f"{base}: {sum(map(all, within))} of {len(within)} (constants {constants}, cosine {cosines})"


def row_of(rows: Rows, name: str, base: str, variant: str) -> tuple[str, list[bool]] | None:
    """One line of the table, and whether it is within the goal of the constants and of cosine."""
    kind = TASKS[name].kind
    own = sorted((row for row in rows if is_own(row, base, variant)), key=lambda row: row["seed"])
    sweeps = [[row for row in rows if row["arm"] == f"{base}-{shape}"] for shape in ("const", "cos")]
    if not own or not all(sweeps):
        return None
    value = summarise(own, kind)
    seeds = " ".join(f"{row.get('metric', math.nan):.4g}" for row in own)
    middle = sorted(row.get("lr_mid", math.nan) for row in own)[len(own) // 2]
    cells, within = [f"{name} ({kind})", base, f"{value:.4g} ({seeds})", f"{middle:.2g}"], []
    for sweep, goal in zip(sweeps, GOALS[kind], strict=True):
        top, lr, is_edge = best(sweep, kind)
        short = shortfall(value, top, kind)
        within.append(short <= goal)
        cells += [f"{top:.4g} @{lr:g}{'!' if is_edge else ''}", f"{short:+.1f}" if within[-1] else f"**{short:+.1f}**"]
    cells.append("yes" if all(within) else "**no**")
    return f"| {' | '.join(cells)} |", within


def is_own(row: dict[str, Any], base: str, variant: str) -> bool:
    return row["arm"] == f"dcao-{base}" and row["variant"] == variant and row["lr"] == GIVEN_LR[base]


def best(rows: Rows, kind: str) -> tuple[float, float, bool]:
    """Best mean of a sweep, its lr, and whether that is at an end of the grid."""
    lrs = {row["lr"] for row in rows}
    full = {lr for lr in lrs if sum(row["lr"] == lr for row in rows) == len(SWEEP_SEEDS)}
    by_lr = {lr: summarise([row for row in rows if row["lr"] == lr], kind) for lr in full or lrs}
    lr = (max if kind == "acc" else min)(by_lr, key=by_lr.__getitem__)
    return by_lr[lr], lr, lr in (min(lrs), max(lrs))


def shortfall(own: float, other: float, kind: str) -> float:
    """Points, or percent of the other's loss; positive is worse."""
    return other - own if kind == "acc" else 100 * (own / other - 1)


def peer_table(rows: Rows, variant: str) -> list[str]:
    """DCAO, its peers, and DCAO where the length of the run is not known."""
    lines = head(["task", "DCAO(AdamW)", "DCAO(SGD)", *PEERS, *OPEN_ARMS.values()])
    for name, spec in TASKS.items():
        mine = [row for row in rows if row["task"] == name]
        columns = [[row for row in mine if is_own(row, base, variant)] for base in GIVEN_LR]
        columns += [[row for row in mine if row["arm"] == arm] for arm in (*PEERS, *OPEN_ARMS)]
        lines.append(f"| {name} ({spec.kind}) | {' | '.join(peer_cell(column, spec.kind) for column in columns)} |")
    return lines


def peer_cell(rows: Rows, kind: str) -> str:
    """The mean, and that of the averaged weights where there are some."""
    if not rows:
        return ""
    cell = f"{summarise(rows, kind):.4g}"
    if "averaged" not in rows[0]:
        return cell
    averaged = [{**row, "metric": next(iter(row["averaged"].values()))} for row in rows]
    return f"{cell} ({summarise(averaged, kind):.4g})"
