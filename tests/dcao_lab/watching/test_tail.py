"""Every whole line is read once and in order, whatever is done to the file."""

import os

import pytest

from dcao_lab.watching.tail import REMEMBERED, Appended, Tail


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.jsonl"


def write(path, content, mode="wb"):
    with path.open(mode) as file:
        file.write(content)


def test_a_file_that_is_not_there_yet_has_no_lines_and_is_read_once_it_is(path):
    tail = Tail()
    assert tail.read(path) == Appended()
    write(path, b"a\n")
    assert tail.read(path) == Appended(lines=(b"a",))


def test_each_look_reads_only_what_was_appended(path, monkeypatch):
    tail = Tail()
    write(path, b"a\n" * 5000)
    assert len(tail.read(path).lines) == 5000
    write(path, b"b\nc\n", "ab")
    begins = []
    monkeypatch.setattr(
        os, "pread", lambda file, size, begin, read=os.pread: begins.append(begin) or read(file, size, begin)
    )
    assert tail.read(path) == Appended(lines=(b"b", b"c"))
    assert begins == [10_000 - REMEMBERED]  # and not the 10,000 bytes before
    assert tail.read(path) == Appended()


def test_a_last_line_that_is_cut_short_waits_for_its_end(path):
    tail = Tail()
    write(path, b'a\n{"st')
    assert tail.read(path).lines == (b"a",)
    assert tail.read(path).lines == ()
    write(path, b'ep": 1}\n', "ab")
    assert tail.read(path) == Appended(lines=(b'{"step": 1}',))


def test_a_resumed_recorder_that_removes_a_line_cut_short_goes_on_with_the_same_file(path):
    tail = Tail()
    write(path, b'a\n{"st')
    tail.read(path)
    os.truncate(path, 2)
    write(path, b"b\n", "ab")
    assert tail.read(path) == Appended(lines=(b"b",))


@pytest.mark.parametrize(
    "content", [b"x\n", b"x\ny\n", b"x\ny\nz\n"], ids=["that is shorter", "of the same length", "that is longer"]
)
@pytest.mark.parametrize("is_replaced", [False, True], ids=["written anew", "replaced"])
def test_another_file_is_read_from_its_beginning(path, content, is_replaced):
    tail = Tail()
    write(path, b"a\nb\n")
    tail.read(path)
    if is_replaced:
        write(path.with_suffix(".new"), content)
        path.with_suffix(".new").replace(path)
    else:
        write(path, content)
    assert tail.read(path) == Appended(lines=tuple(content.split()), is_fresh_start=True)


def test_a_file_that_was_deleted_keeps_its_lines_until_there_is_another(path):
    tail = Tail()
    write(path, b"a\n")
    tail.read(path)
    path.unlink()
    assert tail.read(path) == Appended()
    write(path, b"b\n")
    assert tail.read(path) == Appended(lines=(b"b",), is_fresh_start=True)


def test_a_file_that_was_moved_is_the_same_file(path):
    tail = Tail()
    write(path, b"a\n")
    tail.read(path)
    moved = path.rename(path.with_name("moved"))
    write(moved, b"b\n", "ab")
    assert tail.read(moved) == Appended(lines=(b"b",))


def test_a_long_file_is_read_in_parts_that_end_with_whole_lines(path):
    tail, lines = Tail(), [str(number).encode() for number in range(1000)]
    write(path, b"\n".join(lines) + b"\n")
    found, has_more = [], True
    while has_more:
        appended = tail.read(path, most=100)
        found, has_more = [*found, *appended.lines], appended.has_more
        assert 1 <= len(appended.lines) <= 52 or not has_more  # at least two bytes a line, and one line beyond 100
    assert found == lines


def test_a_line_longer_than_a_part_is_read_whole(path):
    write(path, b"x" * 1000 + b"\nb\n")
    assert Tail().read(path, most=100) == Appended(lines=(b"x" * 1000,), has_more=True)
