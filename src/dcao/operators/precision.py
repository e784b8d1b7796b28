"""Half precision: which tensors have it, and whether a loss is computed in it, or in TF32, which is as coarse."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Literal

import torch
from torch import Tensor

from dcao.operators.graph import graph_nodes

HALF_PRECISION = (torch.bfloat16, torch.float16)
"""The coarser one first."""

_PRODUCTS = ("AddmmBackward0", "MmBackward0", "BmmBackward0", "BaddbmmBackward0")
_CUDNN = ("ConvolutionBackward0", "CudnnRnnBackward0")


def half_precision_of(loss: Any) -> torch.dtype | None:
    """Half-precision dtype in which gradients of this loss flow, the coarser of two; None if there is none.

    Autocast and frozen half-precision layers show in the graph, also after the backward pass. What a compiled function
    computes inside does not. A loss without a graph says nothing. TF32, to which CUDA rounds what goes into a product
    of float32 (by default in convolutions), has the 11 bits of float16, and is called that.

    Example:
        >>> w = torch.ones(2, requires_grad=True)
        >>> half_precision_of(w.bfloat16().sum().float()), half_precision_of(w.sum())
        (torch.bfloat16, None)
    """
    nodes = list(graph_nodes(loss))
    found = {metadata.dtype for node in nodes for metadata in node._input_metadata}
    if coarsest_half(found) is None and any(rounds_to_tf32(node.name(), node._input_metadata) for node in nodes):
        return torch.float16
    return coarsest_half(found)


def rounds_to_tf32(name: str, outputs: Iterable[Any]) -> bool:
    """Whether a function of this name, with outputs of these dtypes and devices, rounds its inputs to TF32.

    Example:
        >>> from types import SimpleNamespace
        >>> rounds_to_tf32("ConvolutionBackward0", [SimpleNamespace(dtype=torch.float32, device=torch.device("cpu"))])
        False
    """
    if not (name in _CUDNN or name in _PRODUCTS):
        return False
    on_cuda = [each.device for each in outputs if each.dtype is torch.float32 and each.device.type == "cuda"]
    if not on_cuda or torch.cuda.get_device_capability(on_cuda[0])[0] < 8:
        return False
    return _allows_tf32("cudnn" if name in _CUDNN else "matmul")


def _allows_tf32(products: Literal["cudnn", "matmul"]) -> bool:
    setting: Any = torch.backends.cudnn if products == "cudnn" else torch.backends.cuda.matmul
    try:
        return bool(setting.allow_tf32)
    except RuntimeError:  # torch's newer setting is in use, which the older one refuses to translate
        return bool((setting.conv if products == "cudnn" else setting).fp32_precision == "tf32")


def coarsest_half(dtypes: Collection[torch.dtype | None]) -> torch.dtype | None:
    """The half-precision dtype among these, the coarser of two; None if there is none.

    Example:
        >>> coarsest_half([torch.float16, torch.bfloat16, torch.float32])
        torch.bfloat16
    """
    return next((dtype for dtype in HALF_PRECISION if dtype in dtypes), None)


def is_half(tensor: Any) -> bool:
    """Whether this is a tensor in half precision, float16 or bfloat16."""
    return isinstance(tensor, Tensor) and tensor.dtype in HALF_PRECISION
