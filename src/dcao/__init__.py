"""DCAO: measure the curvature of a loss while it trains, and keep the step size where stability theory wants it.

The names in ``__all__``, and those in the ``__all__`` of ``operators``, ``policies`` and ``schedules``, are public;
nothing else is.
"""

from dcao import operators, policies, schedules
from dcao.averaging import polynomial_average
from dcao.finding.find_lr import FoundLr, find_lr
from dcao.finding.search import RisePoint
from dcao.guarding.settings import Guard
from dcao.literal import literal
from dcao.optimizer import DCAO
from dcao.plotting.plot import plot
from dcao.policies import Decision, Hyperparameters, Observation, Policy
from dcao.probing.estimate import CurvatureEstimate, Measure, effective_rank
from dcao.probing.loader import ProbeLoader
from dcao.probing.settings import ProbeSettings
from dcao.recorders import (
    JsonlRecorder,
    MemoryRecorder,
    Recorder,
    TensorBoardRecorder,
    TrackioRecorder,
    WandbRecorder,
)
from dcao.replay import read_jsonl, replay
from dcao.spectra.density import SpectralDensity, spectral_density
from dcao.spectra.hessian import HessianSpectrum, hessian_spectrum, sharpness
from dcao.spectra.lanczos import LanczosResult, LanczosStatus, lanczos
from dcao.spectra.trace import TraceResult, hessian_trace
from dcao.state.probing import is_probing
from dcao.telemetry import StepRecord
from dcao.updates.dynamics import StepDynamics
from dcao.updates.registry import OptimizerModel, register_optimizer
from dcao.updates.stability import stability_number, stability_threshold

__version__ = "0.1.0"

__all__ = [
    "DCAO",
    "CurvatureEstimate",
    "Decision",
    "FoundLr",
    "Guard",
    "HessianSpectrum",
    "Hyperparameters",
    "JsonlRecorder",
    "LanczosResult",
    "LanczosStatus",
    "Measure",
    "MemoryRecorder",
    "Observation",
    "OptimizerModel",
    "Policy",
    "ProbeLoader",
    "ProbeSettings",
    "Recorder",
    "RisePoint",
    "SpectralDensity",
    "StepDynamics",
    "StepRecord",
    "TensorBoardRecorder",
    "TraceResult",
    "TrackioRecorder",
    "WandbRecorder",
    "effective_rank",
    "find_lr",
    "hessian_spectrum",
    "hessian_trace",
    "is_probing",
    "lanczos",
    "literal",
    "operators",
    "plot",
    "policies",
    "polynomial_average",
    "read_jsonl",
    "register_optimizer",
    "replay",
    "schedules",
    "sharpness",
    "spectral_density",
    "stability_number",
    "stability_threshold",
]
