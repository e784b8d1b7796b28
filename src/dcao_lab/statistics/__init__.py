"""Statistics that say what a study can and cannot conclude: intervals, tests, profiles, survival and ranking.

Arms are paired by seed. A mistake of the caller raises `LabError`. A question that the data cannot answer (no spread,
too few seeds, no run that reached the target) does not: the result has a status in words, so that a report is still
made.
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
