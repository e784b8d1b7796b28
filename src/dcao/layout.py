"""Where the entries of flat vectors are: in this process, or spread over the ranks as the parameters are.

A vector holds what this process has of each parameter. Where it becomes a number, each entry has to count once: what
several ranks hold alike is counted by the first of them, and the sums are added up over all ranks. So every rank gets
the same number, to the last bit, and that of one process but for rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dcao.shards import is_shard, local_part

if TYPE_CHECKING:
    import torch.distributed as dist
    from torch.distributed.device_mesh import DeviceMesh


class Layout:
    """All entries are in this process.

    Example:
        >>> layout = layout_of([torch.ones(2, 2), torch.ones(3)])
        >>> layout.norm(torch.tensor([3.0, 4.0])), layout.total(7)
        (tensor(5.), 7)
    """

    def total(self, size: int) -> int:
        """Number of entries of a vector on all ranks together, if ``size`` of them are in this process."""
        return size

    def runs(self, size: int) -> list[slice]:
        """The parts of a vector that this process counts, if ``size`` of its entries are here."""
        return [slice(0, size)]

    def dot(self, left: Tensor, right: Tensor) -> Tensor:
        """Inner product of two vectors."""
        return self._sum([torch.dot(left[run], right[run]) for run in self.runs(len(left))], left)

    def norm(self, vector: Tensor) -> Tensor:
        """Euclidean length."""
        return self._length([torch.linalg.vector_norm(vector[run]) for run in self.runs(len(vector))], vector)

    def largest(self, vector: Tensor) -> Tensor:
        """Largest absolute entry; infinite or nan if one is not a number."""
        here: Tensor = torch.linalg.vector_norm(vector, math.inf) if len(vector) else vector.new_zeros(())
        return self._largest(here)

    def products(self, rows: Tensor, vector: Tensor) -> Tensor:
        """Inner products of a vector with the rows of a matrix."""
        return self._sum([rows[:, run] @ vector[run] for run in self.runs(len(vector))], vector, rows.shape[:1])

    def norm_each(self, norms: Tensor) -> Tensor:
        """Lengths of the whole tensors, from those of what this process holds of each."""
        return norms

    def sum_each(self, sums: Tensor) -> Tensor:
        """Sums over the whole tensors, from those over what this process holds of each (along the last axis)."""
        return sums

    def norm_and_sum_each(self, norms: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
        """Both, of the same tensors, in one sum over the ranks."""
        return norms, sums

    def add_up(self, values: Sequence[float]) -> list[float]:
        """Sums of numbers over the ranks."""
        return list(values)

    def greatest(self, value: float) -> float:
        """The largest of a number over the ranks; infinite if it is nan on one of several."""
        return value

    def on_any_rank(self, flag: bool) -> bool:
        """Whether ``flag`` is set on any rank."""
        return flag

    def _sum(self, parts: Sequence[Tensor], like: Tensor, shape: Sequence[int] = ()) -> Tensor:
        return parts[0]

    def _length(self, norms: Sequence[Tensor], like: Tensor) -> Tensor:
        return norms[0]

    def _largest(self, here: Tensor) -> Tensor:
        return here


WHOLE = Layout()


class ShardedLayout(Layout):
    """Entries are spread over the ranks of a mesh, or over one dimension of it and the same along another.

    Args:
        tensors: Those that a flat vector holds, in their order.
        mesh: The mesh that contains those of all tensors.

    Attributes:
        group: The ranks; None: all that there are.
        sizes: Number of entries that this process holds of each tensor.
        whole_sizes: Number that each tensor has.
        counts: Whether this process counts what it holds of each: not if a rank before it holds the same.
    """

    def __init__(self, tensors: Sequence[Tensor], mesh: DeviceMesh) -> None:
        self.tensors, self.mesh, self.group = tensors, mesh, _group_of(mesh)
        self.sizes = [num_entries(local_part(tensor)) for tensor in tensors]
        self.whole_sizes = [num_entries(tensor) for tensor in tensors]
        self.counts = [_counts(tensor, mesh) for tensor in tensors]
        self._runs = list(_runs(self.counts, self.sizes))

    def total(self, size: int) -> int:
        """Number of entries of a vector on all ranks together."""
        return sum(self.whole_sizes)

    def runs(self, size: int) -> list[slice]:
        """The parts of a vector that this process counts: not what a rank before it holds too."""
        return self._runs

    def norm_each(self, norms: Tensor) -> Tensor:
        """Lengths of the whole tensors, from those of what this process holds of each."""
        return self.sum_each(norms.double().square()).sqrt().to(norms)

    def sum_each(self, sums: Tensor) -> Tensor:
        """Sums over the whole tensors, from those over what this process holds of each (along the last axis)."""
        counts = torch.tensor(self.counts, device=sums.device)
        return self._reduced(torch.where(counts, sums, torch.zeros_like(sums))).to(sums)

    def norm_and_sum_each(self, norms: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
        """Both, of the same tensors, in one sum over the ranks."""
        squares, added = self.sum_each(torch.stack([norms.double().square(), sums.double()]))
        return squares.sqrt().to(norms), added.to(sums)

    def add_up(self, values: Sequence[float]) -> list[float]:
        """Sums of numbers over the ranks."""
        summed: list[float] = self._reduced(torch.tensor(values, dtype=torch.float64)).tolist()
        return summed

    def greatest(self, value: float) -> float:
        """The largest of a number over the ranks; infinite if it is nan on one of several."""
        return float(self._largest(torch.tensor(value, dtype=torch.float64)))

    def on_any_rank(self, flag: bool) -> bool:
        """Whether ``flag`` is set on any rank."""
        return bool(self._reduced(torch.tensor(float(flag)), largest=True))

    def _sum(self, parts: Sequence[Tensor], like: Tensor, shape: Sequence[int] = ()) -> Tensor:
        here = torch.stack([part.double() for part in parts]).sum(dim=0) if parts else torch.zeros(shape).double()
        return self._reduced(here).to(like)

    def _length(self, norms: Sequence[Tensor], like: Tensor) -> Tensor:
        squares = torch.stack([norm.double().square() for norm in norms]).sum() if norms else torch.zeros(())
        return self._reduced(squares).sqrt().to(like)

    def _largest(self, here: Tensor) -> Tensor:
        return self._reduced(here.nan_to_num(nan=math.inf), largest=True).to(here)  # not every backend passes nan on

    def _reduced(self, values: Tensor, *, largest: bool = False) -> Tensor:
        """Sums, or the largest, over all ranks; in float64, which holds the squares of float32."""
        import torch.distributed as dist

        reduced = values.to(device=self.mesh.device_type, dtype=torch.float64, copy=True)
        dist.all_reduce(reduced, op=dist.ReduceOp.MAX if largest else dist.ReduceOp.SUM, group=self.group)
        return reduced


def layout_of(tensors: Sequence[Tensor]) -> Layout:
    """The layout of flat vectors that hold these tensors, each in its place.

    Raises:
        ValueError: They are spread over meshes of which none contains the others.
    """
    mesh = mesh_of(tensors)
    return WHOLE if mesh is None else ShardedLayout(tensors, mesh)


def mesh_of(tensors: Sequence[Tensor]) -> DeviceMesh | None:
    """The mesh over which tensors are spread, and which contains those of all others; None if none is spread.

    Raises:
        ValueError: No mesh contains the others.
    """
    meshes: list[DeviceMesh] = []
    for tensor in tensors:
        if is_shard(tensor) and not any(tensor.device_mesh is mesh for mesh in meshes):
            meshes.append(tensor.device_mesh)
    if not meshes:
        return None
    widest = max(meshes, key=lambda mesh: mesh.ndim)
    for mesh in meshes:
        if mesh != widest and not set(mesh.mesh_dim_names or ("",)) <= set(widest.mesh_dim_names or ()):
            raise ValueError(
                f"the parameters must lie on one device mesh and parts of it, got {widest} and {mesh}; name the "
                "dimensions of one mesh, as in init_device_mesh(device, (2, 4), mesh_dim_names=('dp', 'tp'))"
            )
    return widest


def refuse_unknown_parts(params: Sequence[Tensor]) -> None:
    """Check that this process knows which parts of the parameters it holds.

    Raises:
        ValueError: It holds parts that do not say which they are, or that are spread over different meshes.
    """
    mesh_of(params)
    engine = ""
    if any(getattr(p, "_fsdp_flattened", False) for p in params):  # as torch marks them
        engine = "the flat ones of FullyShardedDataParallel"
    elif any(hasattr(p, "ds_id") for p in params):
        engine = "those of DeepSpeed's ZeRO"
    if engine:
        raise ValueError(
            f"the parameters must be whole or DTensors, got {engine}, of which DCAO cannot tell the parts; shard the "
            "model with torch.distributed.fsdp.fully_shard, or train as the bare optimizer, with "
            "policy=policies.Fixed()"
        )


def counted_by_this_process(tensors: Sequence[Tensor]) -> list[bool] | None:
    """Which of the tensors this process counts; None: all, because none is spread over ranks."""
    mesh = mesh_of(tensors)
    return None if mesh is None else [_counts(tensor, mesh) for tensor in tensors]


def _group_of(mesh: DeviceMesh) -> dist.ProcessGroup | None:
    """All ranks of a mesh; None for all ranks that there are."""
    import torch.distributed as dist

    if mesh.size() == dist.get_world_size():
        return None
    return mesh.get_group() if mesh.ndim == 1 else mesh._flatten().get_group()


def _counts(tensor: Tensor, mesh: DeviceMesh) -> bool:
    """Whether this process is the first of those that hold the same part of a tensor."""
    coordinate = mesh.get_coordinate() or [0] * mesh.ndim
    if not is_shard(tensor):
        return not any(coordinate)
    own = tensor.device_mesh
    of_own = own.get_coordinate() or [0] * own.ndim
    repeats = [at for at, placement in zip(of_own, tensor.placements, strict=True) if placement.is_replicate()]
    if own != mesh:
        names = own.mesh_dim_names or ()
        repeats += [at for at, name in zip(coordinate, mesh.mesh_dim_names or (), strict=True) if name not in names]
    return not any(repeats)


def _runs(counts: Sequence[bool], sizes: Sequence[int]) -> Iterator[slice]:
    begin = 0
    for is_counted, each in groupby(zip(counts, sizes, strict=True), key=lambda pair: pair[0]):
        length = sum(size for _, size in each)
        if is_counted and length:
            yield slice(begin, begin + length)
        begin += length


def num_entries(tensor: Tensor) -> int:
    """Entries that a tensor takes in a flat vector: two for a complex number."""
    return tensor.numel() * (2 if tensor.is_complex() else 1)
