"""timm's optimizers, schedulers and param groups, also where torchvision is missing, which the rest of timm needs."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def load() -> tuple[ModuleType, ModuleType]:
    """``timm.optim`` and ``timm.scheduler``; skips the test module where timm is not installed.

    Without torchvision they are loaded beside stand-ins, which are gone afterwards: ``timm.models`` has nothing but the
    function that groups parameters by layers, and ``torchvision`` the class that timm's layers name.
    """
    spec = importlib.util.find_spec("timm")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("timm is not installed", allow_module_level=True)
    if importlib.util.find_spec("torchvision") is not None:
        return importlib.import_module("timm.optim"), importlib.import_module("timm.scheduler")
    before = set(sys.modules)
    try:
        folder = Path(next(iter(spec.submodule_search_locations)))
        _package("timm", folder)
        models = _package("timm.models", folder / "models")
        for name in ("torchvision", "torchvision.ops", "torchvision.ops.misc"):
            sys.modules[name] = ModuleType(name)
        sys.modules["torchvision.ops.misc"].FrozenBatchNorm2d = type("FrozenBatchNorm2d", (), {})
        models.group_parameters = importlib.import_module("timm.models._manipulate").group_parameters
        return importlib.import_module("timm.optim"), importlib.import_module("timm.scheduler")
    finally:
        for name in set(sys.modules) - before:
            if name.split(".")[0] in ("timm", "torchvision"):
                del sys.modules[name]


def _package(name: str, folder: Path) -> ModuleType:
    """A package whose modules can be imported, without what its own ``__init__`` does."""
    module = ModuleType(name)
    module.__path__ = [str(folder)]
    sys.modules[name] = module
    return module
