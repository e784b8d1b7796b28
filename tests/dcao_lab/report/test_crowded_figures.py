"""What figures of many arms show: the leading ones, families, the conditions side by side, colours that differ."""

from collections import Counter
from dataclasses import replace

import pytest

from dcao_lab.report.analysis.comparisons import MOST_CONDITIONS, comparisons, gains
from dcao_lab.report.analysis.results import results
from dcao_lab.report.analysis.shown import MOST_LEADING, families, leading, parts
from dcao_lab.report.analysis.view import view
from dcao_lab.report.figures.styles import COLORS, MARKERS, styles, told_apart
from dcao_lab.study import Variation
from dcao_lab.study.recipes import RECIPES
from helpers.crowded_studies import LITERAL, MANY, ablation, families_study
from helpers.report_studies import ADAMW, DCAO_ADAMW, SGD, finals, result_of, study

BARE = tuple(replace(SGD, name=f"sgd-{number}") for number in range(8))


def leading_of(result):
    seen = view(result)
    return leading(seen, results(seen))


def test_of_few_arms_all_are_shown():
    result = result_of(study(ADAMW, SGD), finals(ADAMW, [0.9]), finals(SGD, [0.8]))
    assert leading_of(result) == ("adamw", "sgd")


def test_of_many_the_references_the_best_dcao_and_the_best_are_shown():
    shown = leading_of(ablation())
    assert len(shown) == MOST_LEADING < len(MANY)
    assert {"adamw", "dcao:adamw"} <= set(shown)  # what others are compared with
    assert "dcao-19" in shown  # the best of what is compared with dcao:adamw
    assert "literal" not in shown  # another DCAO arm has the same reference
    assert shown == tuple(arm.name for arm in MANY if arm.name in shown)  # in the study's order


def test_an_arm_whose_runs_go_like_another_s_takes_no_place():
    shown = leading_of(ablation(is_doubled=True))
    assert not {"dcao-19", "dcao-19 again"} <= set(shown)


def test_an_arm_that_diverges_like_another_takes_no_place():
    first, again = replace(SGD, name="first"), replace(SGD, name="again")
    lost = [finals(arm, [None], untrained=float("nan")) for arm in (first, again)]  # two nan, which are not equal
    others = [finals(arm, [None], untrained=0.1 + 0.01 * number) for number, arm in enumerate(BARE)]
    assert leading_of(result_of(study(first, again, *BARE), *lost, *others)) == (
        "first",
        *(arm.name for arm in BARE[: MOST_LEADING - 1]),
    )


def test_an_arm_that_ends_like_another_and_went_otherwise_keeps_its_place():
    """With one seed the literal algorithm, which is first in the study, ends like what is recommended."""
    literal, dcao = (finals(arm, [0.9], untrained=start) for arm, start in ((LITERAL, 0.1), (DCAO_ADAMW, 0.2)))
    others = [finals(arm, [0.95], untrained=0.3 + 0.01 * number) for number, arm in enumerate((ADAMW, *BARE))]
    shown = leading_of(result_of(study(ADAMW, LITERAL, DCAO_ADAMW, *BARE), literal, dcao, *others))
    assert "dcao:adamw" in shown
    assert "literal" not in shown


def test_families_are_split_where_every_reference_is_at_home():
    config = families_study()
    names = [arm.name for arm in config.arms]
    assert families(config, names, most=3) == {
        "slow": ["adamw slow", "dcao slow"],
        "fast": ["adamw fast", "dcao fast"],
    }
    assert families(config, names, most=4) == {"": names}


def test_groups_whose_references_are_elsewhere_are_no_families():
    names = [arm.name for arm in MANY]
    config = ablation().study
    assert families(config, names, most=3) == {"": names}
    assert parts(config, names, most=3)["literal"] == ["adamw", "literal"]  # with its reference


@pytest.mark.parametrize("num_conditions", [1, MOST_CONDITIONS, MOST_CONDITIONS + 1])
def test_bars_are_for_conditions_that_fit_side_by_side(num_conditions):
    variations = tuple(Variation(axis="lr", value=10.0**-i) for i in range(num_conditions))
    groups = [
        finals(arm, [value] * 3, variation=v, lr=v.value)
        for v in variations
        for arm, value in ((ADAMW, 0.5), (DCAO_ADAMW, 0.6))
    ]
    seen = view(result_of(study(ADAMW, DCAO_ADAMW, variations=variations), *groups))
    found = gains(comparisons(seen, results(seen)), "digits_mlp")
    assert list(found) == (list(variations) if num_conditions <= MOST_CONDITIONS else [])


def test_leading_arms_and_arms_of_a_group_have_looks_of_their_own():
    shown = leading_of(ablation())
    rules = [arm.name for arm in MANY if arm.group == "rules"]
    for num_looks in (len(COLORS), len(MARKERS)):
        found = told_apart(MANY, shown, num_looks)
        assert len({found[name] for name in shown}) == len(shown)
        assert len({found[name] for name in rules}) == len(rules)


def test_arms_of_one_colour_have_markers_of_their_own():
    looks = styles(ablation().study, leading_of(ablation()))
    by_color = Counter((look.color, look.marker) for look in looks.values())
    most = max(Counter(look.color for look in looks.values()).values())
    assert most <= len(MARKERS)  # so that the markers last
    assert set(by_color.values()) == {1}


@pytest.mark.parametrize("name", RECIPES)
def test_in_every_study_what_dcao_steers_is_solid_and_all_else_has_one_dash(name):
    config = RECIPES[name]("small")
    looks = styles(config, [arm.name for arm in config.arms[:MOST_LEADING]])
    for arm in config.arms:
        assert looks[arm.name].dash == (() if arm.optimizer.startswith("dcao") else (4, 1.5)), arm.name
