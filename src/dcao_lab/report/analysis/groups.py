"""The arms of a crowded figure in parts that can be read."""

from collections.abc import Collection

from dcao_lab.study.config import Arm, StudyConfig

Parts = dict[str, list[str]]  # names of arms by title; a single part has none


def parts(study: StudyConfig, arms: Collection[str], most: int) -> Parts:
    """Of more than ``most`` arms those of each group, with the references of its arms; of few, all in one part."""
    present = _present(study, arms)
    if len(present) <= most or len(_groups(present)) < 2:
        return {"": [arm.name for arm in present]}
    return {group or "others": _with_references(present, group) for group in _groups(present)}


def families(study: StudyConfig, arms: Collection[str], most: int) -> Parts:
    """The same where every arm's reference is in its own group; where groups are no such families, all in one part."""
    present = _present(study, arms)
    group_of = {arm.name: arm.group for arm in present}
    are_families = all(arm.reference is None or group_of.get(arm.reference) == arm.group for arm in present)
    return parts(study, arms, most if are_families and "" not in group_of.values() else len(present))


def _present(study: StudyConfig, arms: Collection[str]) -> list[Arm]:
    return [arm for arm in study.arms if arm.name in arms]


def _groups(present: list[Arm]) -> list[str]:
    return list(dict.fromkeys(arm.group for arm in present))


def _with_references(present: list[Arm], group: str) -> list[str]:
    members = [arm for arm in present if arm.group == group]
    shown = {arm.name for arm in members} | {arm.reference for arm in members}
    return [arm.name for arm in present if arm.name in shown]
