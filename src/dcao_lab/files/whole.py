"""Files that are there whole or not at all: another process may be reading, and this one may be killed."""

import secrets
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Write ``content`` beside ``path`` and rename it, so that a full disk leaves what was there."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")  # a process id may be another machine's too
    try:
        if isinstance(content, bytes):
            partial.write_bytes(content)
        else:
            partial.write_text(content, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
