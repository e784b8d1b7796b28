"""What Weights & Biases has written offline: records of protobuf in the log format of LevelDB."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, FILE_HEADER, CHUNK_HEADER = 32768, 7, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of the only run under ``folder``, each with the step of W&B's own as ``_step``."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.rglob("*.wandb")
    found = []
    for data in _logged(path.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(data)
        if record.WhichOneof("record_type") == "history":
            items = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            found.append(items)
    return found


def _logged(content: bytes) -> Iterator[bytes]:
    """The payloads: each in one chunk, or in several that end where a block of the file ends."""
    at, parts = FILE_HEADER, b""
    while at + CHUNK_HEADER <= len(content):
        left = BLOCK - at % BLOCK
        if left < CHUNK_HEADER:
            at += left
            continue
        length, kind = struct.unpack("<HB", content[at + 4 : at + CHUNK_HEADER])
        parts += content[at + CHUNK_HEADER : at + CHUNK_HEADER + length]
        at += CHUNK_HEADER + length
        if kind in (FULL, LAST):
            yield parts
            parts = b""
