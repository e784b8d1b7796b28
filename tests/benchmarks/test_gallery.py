"""The pictures of the gallery: made by the code beside them, small, and there."""

import re
from pathlib import Path

import pytest

from gallery import BLOCK, DOCS

PAGE = (DOCS / "gallery.md").read_text()
PICTURES = re.findall(r"!\[[^\]]*\]\(images/([^)]+)\)", PAGE)
MOST_BYTES = 100_000


def test_the_page_has_pictures_and_each_is_made_by_the_block_above_it():
    blocks_before = [BLOCK.findall(PAGE[: PAGE.index(f"images/{picture}")])[-1] for picture in PICTURES]
    assert len(PICTURES) >= 5
    assert [re.findall(r'savefig\("([^"]+)"', block) for block in blocks_before] == [[name] for name in PICTURES]


@pytest.mark.parametrize("picture", PICTURES)
def test_a_picture_is_a_small_png(picture):
    content = Path(DOCS / "images" / picture).read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) < MOST_BYTES
