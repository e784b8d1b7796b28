"""What the numbers of a study can and cannot say: intervals, tests, profiles, survival and ranking.

Arms are paired by seed. What the caller got wrong raises `LabError`; what the data cannot answer (no spread, too few
seeds, nobody reached the target) is a status in words inside the result, so a report never stops for it.
"""

from dcao_lab.statistics.bootstrap import Interval, bootstrap_interval
from dcao_lab.statistics.holm import holm
from dcao_lab.statistics.iqm import InterquartileMean, interquartile_mean
from dcao_lab.statistics.paired import Comparison, compare
from dcao_lab.statistics.profiles import PerformanceProfile, performance_profiles
from dcao_lab.statistics.ranking import Ranking, rank_arms
from dcao_lab.statistics.survival import LogRank, TargetMedian, TargetTimes, log_rank, median_time_to_target

__all__ = [
    "Comparison",
    "InterquartileMean",
    "Interval",
    "LogRank",
    "PerformanceProfile",
    "Ranking",
    "TargetMedian",
    "TargetTimes",
    "bootstrap_interval",
    "compare",
    "holm",
    "interquartile_mean",
    "log_rank",
    "median_time_to_target",
    "performance_profiles",
    "rank_arms",
]
