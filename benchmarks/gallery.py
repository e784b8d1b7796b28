"""The pictures of docs/gallery.md, made by the code on that page.

Run: python benchmarks/gallery.py. Writes docs/images/gallery-*.png (half a minute).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def main() -> None:
    page = (DOCS / "gallery.md").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", "\n".join(BLOCK.findall(page))], cwd=folder, check=True)
        for picture in sorted(Path(folder).glob("gallery-*.png")):
            shutil.copy(picture, DOCS / "images" / picture.name)
            print(f"{picture.name}: {picture.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
