"""What the report calls arms and their groups: optimizers by their names, settings in words.

The file of a study has titles and groups as its recipe wrote them, with settings as code has them. Its fingerprint
depends on them, and a folder with another fingerprint is refused, so they are spelled here and not there.
"""

import re
from dataclasses import replace

from dcao_lab.baselines import get_baseline
from dcao_lab.report import formats
from dcao_lab.study.config import Arm, StudyConfig


def named(study: StudyConfig) -> StudyConfig:
    """The study with the titles and the groups of its arms as the report has them."""
    return replace(study, arms=tuple(map(named_arm, study.arms)))


def named_arm(arm: Arm) -> Arm:
    """The arm with its title and its group as the report has them.

    Example:
        >>> settings = {"rule": "proposal", "weight_decay": 5e-4}
        >>> title = "DCAO(SGD), rule=proposal, weight_decay=0.0005, lr=0.05"
        >>> arm = Arm(name="a", title=title, optimizer="dcao:sgd", settings=settings, lr=0.05, group="sgd from 0.05")
        >>> named_arm(arm).title
        "DCAO(SGD), proposal's rule, weight decay 0.0005, lr 0.05"
        >>> named_arm(arm).group
        'SGD, lr 0.05'
    """
    return replace(arm, title=_title(arm), group=_group(arm))


def _title(arm: Arm) -> str:
    title = arm.title
    for name, value in (*arm.settings, *([] if arm.lr is None else [("lr", arm.lr)])):
        in_code = f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        title = _replaced(title, in_code, formats.setting(name, value))
    return title


def _group(arm: Arm) -> str:
    family = get_baseline(get_baseline(arm.optimizer).family)
    group = _replaced(arm.group, family.name, family.title)
    if arm.lr is not None:
        group = group.replace(f" from {arm.lr:g}", f", lr {arm.lr:g}")
    return group.replace("_", " ") if group in dict(arm.settings) else group


def _replaced(text: str, old: str, new: str) -> str:
    """The text with ``old`` replaced where it is no part of a longer word or number."""
    return re.sub(rf"(?<!\w){re.escape(old)}(?![\w.])", lambda _: new, text)
