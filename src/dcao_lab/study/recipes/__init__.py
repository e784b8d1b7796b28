"""The studies, by name: functions that return a complete config for a size."""

from collections.abc import Callable

from dcao_lab.errors import look_up
from dcao_lab.study.config import StudyConfig
from dcao_lab.study.recipes.ablation import ablation
from dcao_lab.study.recipes.eos import eos
from dcao_lab.study.recipes.generalisation import generalisation
from dcao_lab.study.recipes.headline import headline
from dcao_lab.study.recipes.overhead import overhead
from dcao_lab.study.recipes.quantities import quantities
from dcao_lab.study.recipes.real import real
from dcao_lab.study.recipes.robustness import robustness
from dcao_lab.study.recipes.transfer import transfer

MakeStudy = Callable[[str], StudyConfig]

RECIPES: dict[str, MakeStudy] = {
    "headline": headline,
    "ablation": ablation,
    "robustness": robustness,
    "transfer": transfer,
    "quantities": quantities,
    "real": real,
    "overhead": overhead,
    "eos": eos,
    "generalisation": generalisation,
}


def get_recipe(name: str) -> MakeStudy:
    """The recipe called ``name``.

    Example:
        >>> get_recipe("headline")("embedded").question[:15]
        'Does DCAO train'
    """
    return look_up(RECIPES, name, "study")
