"""The optimizers that runs can be compared with, by name."""

from dcao_lab.baselines import second_order, third_party, torch_bases
from dcao_lab.baselines.adler import ADLER_RECIPE
from dcao_lab.baselines.base import Baseline
from dcao_lab.baselines.cdat import CDAT_RECIPE
from dcao_lab.baselines.dcao.arms import literal, steered
from dcao_lab.baselines.kfac import KFAC_RECIPE
from dcao_lab.baselines.muon import MUON

_ALL: tuple[Baseline, ...] = (
    torch_bases.ADAMW.baseline(),
    steered(torch_bases.ADAMW),
    literal(torch_bases.ADAMW),
    torch_bases.SGD.baseline(),
    steered(torch_bases.SGD),
    literal(torch_bases.SGD),
    torch_bases.ADAM.baseline(),
    KFAC_RECIPE.baseline(),
    ADLER_RECIPE.baseline(),
    CDAT_RECIPE.baseline(),
    second_order.ADAHESSIAN.baseline(),
    second_order.SOPHIA.baseline(),
    third_party.SCHEDULE_FREE_ADAMW.baseline(),
    third_party.PRODIGY.baseline(),
    MUON.baseline(),
    third_party.SOAP.baseline(),
    third_party.LION.baseline(),
)

BASELINES: dict[str, Baseline] = {baseline.name: baseline for baseline in _ALL}
