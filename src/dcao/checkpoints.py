"""DCAO's part of a checkpoint: checked as a whole before anything is loaded, and as a text that any tool carries."""

from __future__ import annotations

import base64
import copy
import json
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

KEY = "dcao"
"""Where DCAO's part is: in a state dict, and in its first param group as a text."""

VERSION = 1

FIX = 'to load the part of the base optimizer alone, from which DCAO starts afresh, delete the entry "dcao"'

NO_JSON = " (its state is no plain JSON)"

# Types of what is None at first.
LATER: dict[str, Any] = {
    "first_loss": float,
    "first_mean": float,
    "lowest": dict,
    "past_gradient": Tensor,
    "past": Tensor,
    "natural_length": float,
    "blamed_at": int,
    "policy_state": dict,
    "loader": dict,
    "informing": dict,
}


def kinds_of(value: Any) -> Any:
    """The types of a nested state: dictionaries and lists of types, None for what may be anything.

    Example:
        >>> kinds_of({"scale": 1.0, "written": [0.1], "loss": None})
        {'scale': <class 'float'>, 'written': [<class 'float'>], 'loss': None}
    """
    if isinstance(value, Mapping):
        return {key: kinds_of(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [kinds_of(each) for each in value]
    return None if value is None else Tensor if isinstance(value, Tensor) else type(value)


def keys_of(value: Any) -> Any:
    """The same without the types of numbers and texts: of a policy's state only the keys are known beforehand."""
    if isinstance(value, Mapping):
        return {key: keys_of(each) for key, each in value.items()}
    return [keys_of(each) for each in value] if isinstance(value, (list, tuple)) else None


def require_kinds(saved: Any, kinds: Any, where: str = 'state_dict["dcao"]', *, is_open: bool = False) -> None:
    """Raise a ValueError unless a saved state has every key of ``kinds``, with values of these types.

    Other keys are refused unless it ``is_open``, or none was there at first.

    Example:
        >>> require_kinds({"scale": 2}, {"scale": float})
        >>> require_kinds({}, {"scale": float})
        Traceback (most recent call last):
        ...
        ValueError: state_dict["dcao"] lacks the key 'scale'; ...
    """
    if isinstance(kinds, dict):
        _require(isinstance(saved, Mapping), f"{where} must be a dict, got {type(saved).__name__}")
        for key in kinds:
            _require(key in saved, f"{where} lacks the key {key!r}")
        unknown = [key for key in saved if key not in kinds] if kinds and not is_open else []
        _require(not unknown, f"{where} has unknown keys: {unknown}")
        for key, kind in kinds.items():
            if saved[key] is not None or key not in LATER:
                expected = LATER.get(key) if kind is None else kind
                require_kinds(saved[key], expected, f'{where}["{key}"]', is_open=is_open)
    elif isinstance(kinds, list):
        _require(isinstance(saved, (list, tuple)), f"{where} must be a list, got {type(saved).__name__}")
        positional = any(isinstance(kind, (dict, list)) for kind in kinds)
        if positional:
            _require(len(saved) == len(kinds), f"{where} must have {len(kinds)} entries, got {len(saved)}")
        for index, each in enumerate(saved):
            if each is not None and kinds:
                kind = kinds[index if positional else 0]
                require_kinds(each, kind, f"{where}[{index}]", is_open=is_open)
    elif kinds is not None:
        expected = {float: numbers.Real, dict: Mapping}.get(kinds, kinds)
        fits = isinstance(saved, expected) and isinstance(saved, bool) is (kinds is bool)
        _require(fits, f"{where} must be a {kinds.__name__}, got {type(saved).__name__}")


def require_version(own: Any) -> None:
    """Raise a ValueError unless a saved part is one that this version writes."""
    require_kinds(own, {"version": int}, is_open=True)
    _require(own["version"] == VERSION, f'state_dict["dcao"]["version"] must be {VERSION}, got {own["version"]}')


def require_lengths(lists: Mapping[str, Sequence[Any]], num_groups: int) -> None:
    """Raise a ValueError unless each of the controller's lists has one entry for each param group."""
    for name, values in lists.items():
        where = f'state_dict["dcao"]["controller"]["{name}"]'
        wrong = f"{where} must have {num_groups} entries, one a param group, got {len(values)}"
        _require(len(values) == num_groups, wrong)


def require_loadable(part: Any, own: dict[str, Any], *keys: str) -> None:
    """Raise a ValueError unless a copy of ``part`` can load its saved state, which lies under these keys."""
    saved, where = own, 'state_dict["dcao"]'
    for key in keys:
        saved, where = saved[key], f'{where}["{key}"]'
    try:
        copy.copy(part).load_state_dict(saved)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{where} is of no use: {error}; {FIX}") from error


def _require(fits: bool, wrong: str) -> None:
    if not fits:
        raise ValueError(f"{wrong}; {FIX}")


# --- as a text ------------------------------------------------------------------------------------------------------


def as_text(own: dict[str, Any]) -> str:
    """DCAO's part as JSON, without what has the size of the model.

    ``torch.distributed.checkpoint`` keeps the param groups of a state dict and drops what stands beside them. It wants
    entries that do not change their size from one checkpoint to the next, so vectors stay behind: Lanczos starts from a
    random one, and a probe that needs the gradient of the step before is made one step later.
    """
    loop, controller = dict(own["loop"]), dict(own["controller"])
    if loop["probe"]["past_gradient"] is not None:
        loop["turns"] = {**loop["turns"], "probed_at": loop["num_steps"], "probe_again": True}
    loop |= {"informing": None}  # what spectra that only inform start from
    try:
        json.dumps(controller["policy_state"])
    except (TypeError, ValueError):
        controller |= {"policy_state": None, "policy": controller["policy"] + NO_JSON}
    return json.dumps(_without_vectors({**own, "loop": loop, "controller": controller}), default=_encode)


def _without_vectors(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    is_vector = {key: isinstance(each, Tensor) and each.is_floating_point() for key, each in value.items()}
    if is_vector and all(is_vector.values()):
        return {}  # start vectors, each under the name of a Lanczos run
    return {key: None if is_vector[key] else _without_vectors(each) for key, each in value.items()}


def from_text(text: str) -> Any:
    """What :func:`as_text` was given; a ValueError if it was something else."""
    try:
        return json.loads(text, object_hook=_decode)
    except (ValueError, TypeError) as error:
        fix = 'delete "dcao" from the param groups'
        raise ValueError(f'the param groups hold an entry "dcao" that DCAO has not written; {fix}') from error


def with_text(groups: Sequence[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """The param groups of a state dict, the first with DCAO's part as a text."""
    return [{**group, KEY: text} if index == 0 else group for index, group in enumerate(groups)]


def without_text(groups: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    """The param groups without DCAO's part, and the text if it counts.

    It counts where a tool has renamed the parameters of the groups, because such a tool drops what stands beside them.
    Elsewhere the part is complete in the state dict, or has been deleted from it on purpose.
    """
    texts = [group[KEY] for group in groups if group.get(KEY) and any(isinstance(p, str) for p in group["params"])]
    return [{key: value for key, value in group.items() if key != KEY} for group in groups], texts[0] if texts else ""


def _encode(value: Any) -> dict[str, str] | float:
    if isinstance(value, numbers.Real):
        return float(value)  # of NumPy, in a checkpoint that somebody has converted
    if isinstance(value, Tensor):
        return {"bytes": base64.b64encode(bytes(value.tolist())).decode("ascii")}  # of a random generator
    raise TypeError(f"{type(value).__name__} is no plain JSON")


def _decode(value: dict[str, Any]) -> Any:
    if value.keys() != {"bytes"}:
        return value
    return torch.tensor(list(base64.b64decode(value["bytes"])), dtype=torch.uint8)
