"""Where code comes from, the user or a library, and which names it uses."""

from __future__ import annotations

import sys
from enum import Enum
from functools import lru_cache
from pathlib import Path
from types import CodeType

from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin


class Source(Enum):
    """Where the class of a module comes from."""

    LAYER = "torch.nn"
    WRAPPER = "torch, elsewhere"  # a compiler's or a wrapper's, which does not survive that its attributes are put back
    USER = "a user or a library"


@lru_cache(maxsize=4096)
def source_of(kind: type[nn.Module]) -> Source:
    """Where the class of a module comes from."""
    if kind.__module__.startswith(("torch.nn.modules", "torch.nn.utils")):
        return Source.WRAPPER if issubclass(kind, LazyModuleMixin) else Source.LAYER  # it becomes another class
    return Source.WRAPPER if kind.__module__.startswith(("torch.", "torch_")) else Source.USER


def is_users(module_name: object) -> bool:
    """Whether a module is the user's own code: not torch, DCAO, the standard library or an installed package."""
    return isinstance(module_name, str) and _is_users(module_name)


@lru_cache(maxsize=4096)
def _is_users(module_name: str) -> bool:
    package = module_name.partition(".")[0]
    if package == "__main__":
        return True
    if package in ("torch", "dcao") or package in sys.stdlib_module_names:
        return False
    file = getattr(sys.modules.get(module_name), "__file__", None)
    return file is None or not {"site-packages", "dist-packages"} & set(Path(file).parts)


@lru_cache(maxsize=4096)
def names_of(code: CodeType) -> tuple[str, ...]:
    """The global names that code uses, and the attributes: code does not tell them apart. Inner functions included."""
    inner = (name for each in code.co_consts if isinstance(each, CodeType) for name in names_of(each))
    return tuple(dict.fromkeys((*code.co_names, *inner)))
