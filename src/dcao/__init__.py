"""DCAO: measure the curvature of a loss while it trains, and keep the step size where stability theory wants it.

The names in ``__all__``, and those in the ``__all__`` of ``operators``, ``policies`` and ``schedules``, are public;
nothing else is.
"""

from dcao import operators, policies, schedules
from dcao.averaging import polynomial_average
from dcao.curvature import CurvatureEstimate, effective_rank
from dcao.density import SpectralDensity, spectral_density
from dcao.lanczos import LanczosResult, LanczosStatus, lanczos
from dcao.optimizer import DCAO
from dcao.optimizer_models import OptimizerModel, register_optimizer
from dcao.policies import Decision, Hyperparameters, Observation, Policy
from dcao.probe_batch import ProbeLoader
from dcao.spectrum import HessianSpectrum, hessian_spectrum, sharpness
from dcao.stability import stability_number, stability_threshold
from dcao.step_dynamics import StepDynamics
from dcao.telemetry import (
    JsonlRecorder,
    MemoryRecorder,
    Recorder,
    StepRecord,
    TensorBoardRecorder,
    read_jsonl,
    replay,
)
from dcao.trace import TraceResult, hessian_trace

__version__ = "0.1.0"

__all__ = [
    "DCAO",
    "CurvatureEstimate",
    "Decision",
    "HessianSpectrum",
    "Hyperparameters",
    "JsonlRecorder",
    "LanczosResult",
    "LanczosStatus",
    "MemoryRecorder",
    "Observation",
    "OptimizerModel",
    "Policy",
    "ProbeLoader",
    "Recorder",
    "SpectralDensity",
    "StepDynamics",
    "StepRecord",
    "TensorBoardRecorder",
    "TraceResult",
    "effective_rank",
    "hessian_spectrum",
    "hessian_trace",
    "lanczos",
    "operators",
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
