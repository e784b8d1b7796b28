"""The optimizers that runs can be compared with, by name."""

from dcao_lab.baselines import second_order, third_party, torch_bases
from dcao_lab.baselines.adler import ADLER_BASELINE
from dcao_lab.baselines.base import Baseline
from dcao_lab.baselines.cdat import CDAT_BASELINE
from dcao_lab.baselines.dcao.arms import literal, steered
from dcao_lab.baselines.kfac import KFAC_BASELINE
from dcao_lab.baselines.muon import MUON

_ALL: tuple[Baseline, ...] = (
    torch_bases.ADAMW,
    steered(torch_bases.ADAMW),
    literal(torch_bases.ADAMW),
    torch_bases.SGD,
    steered(torch_bases.SGD),
    literal(torch_bases.SGD),
    torch_bases.ADAM,
    KFAC_BASELINE,
    ADLER_BASELINE,
    CDAT_BASELINE,
    second_order.ADAHESSIAN,
    second_order.SOPHIA,
    third_party.SCHEDULE_FREE_ADAMW,
    third_party.PRODIGY,
    third_party.DADAPT_ADAM,
    MUON,
    third_party.SOAP,
    third_party.LION,
)

BASELINES: dict[str, Baseline] = {baseline.name: baseline for baseline in _ALL}
