"""Which comparisons are drawn as bars: each arm with its reference, the conditions side by side."""

from collections.abc import Sequence

from dcao_lab.report.analysis.comparisons import ArmComparison
from dcao_lab.study.config import Variation
from dcao_lab.workloads import WorkloadInfo

MOST_CONDITIONS = 4  # so many stand side by side; of more, the lines of the sweeps are the figure to read

Gains = dict[Variation | None, list[ArmComparison]]


def gains(comparisons: Sequence[ArmComparison], task: str) -> Gains:
    """The comparisons of a task with references, by conditions; empty where these are too many."""
    found: Gains = {}
    for comparison in comparisons:
        if comparison.task == task and "reference" in comparison.kinds and comparison.gain is not None:
            found.setdefault(comparison.variation, []).append(comparison)
    return found if len(found) <= MOST_CONDITIONS else {}


def gain_interval(comparison: ArmComparison, info: WorkloadInfo) -> tuple[float, float] | None:
    """Ends of the interval of the gain, for which more is better; None: it has none."""
    low, high = comparison.found.interval.low, comparison.found.interval.high
    if low is None or high is None:
        return None
    return (low, high) if info.higher_is_better else (-high, -low)


def bar_scale(info: WorkloadInfo) -> float:
    """What gains are multiplied by along an axis: accuracy is drawn in points."""
    return 100.0 if info.metric == "accuracy" else 1.0


def distinct(titles: Sequence[str]) -> list[str]:
    """Titles without the parts that all of them share: next to each other they need not repeat these.

    Example:
        >>> distinct(["DCAO(SGD), rules=lr, weight_decay=0.1", "DCAO(SGD), rules=none, weight_decay=0.1"])
        ['rules=lr', 'rules=none']
        >>> distinct(["AdamW", "AdamW, lr=0.1"])
        ['AdamW', 'AdamW, lr=0.1']
    """
    parts = [title.split(", ") for title in titles]
    shared = set.intersection(*map(set, parts)) if len(parts) > 1 else set()
    short = [[part for part in own if part not in shared] for own in parts]
    return [", ".join(own) for own in short] if all(short) else list(titles)
