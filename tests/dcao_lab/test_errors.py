import pytest

from dcao_lab.baselines import get_baseline
from dcao_lab.errors import LabError
from dcao_lab.workloads import WORKLOADS, get_workload


def test_an_unknown_workload_is_answered_with_near_matches():
    with pytest.raises(LabError, match=r"unknown workload 'digit_mlp'; did you mean digits_mlp"):
        get_workload("digit_mlp")


def test_an_unknown_optimizer_is_answered_with_near_matches():
    with pytest.raises(LabError, match=r"unknown optimizer 'dcao-adamw'; did you mean .*dcao:adamw"):
        get_baseline("dcao-adamw")


def test_a_name_like_nothing_is_answered_with_all_there_are():
    with pytest.raises(LabError, match=f"^unknown workload 'zzz'; there are: {', '.join(WORKLOADS)}$"):
        get_workload("zzz")
