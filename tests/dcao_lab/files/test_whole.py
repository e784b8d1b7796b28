"""A file that cannot be written leaves what was there."""

import pytest

from dcao_lab.files.whole import write_whole


def test_what_cannot_be_written_leaves_the_old_text_and_nothing_else(tmp_path):
    path = tmp_path / "page.html"
    write_whole(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "new" * 9999 + "\ud800")  # no UTF-8: the text breaks off after some of it
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_new_text_takes_the_place_of_the_old(tmp_path):
    for text in ("old", "new"):
        write_whole(tmp_path / "page.html", text)
    assert (tmp_path / "page.html").read_text() == "new"
