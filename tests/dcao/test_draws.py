"""A random vector in pieces is the same as at once, whatever the pieces are."""

import pytest
import torch

from dcao.draws import BLOCK, InPieces
from dcao.vectors import random_vector, seeded


@pytest.mark.parametrize("kind", ["gaussian", "rademacher"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 15, 16, 17, 31, 32, 33, 47, 1000])
def test_pieces_of_any_length_make_up_the_whole(size, dtype, kind):
    whole = random_vector(size, kind=kind, generator=seeded(3), dtype=dtype)
    for length in (1, 7, 16, size):
        pieces = InPieces(size, kind=kind, generator=seeded(3), dtype=dtype, block=16)
        found = [pieces.take(min(length, size - begin)) for begin in range(0, size, length)]
        assert torch.equal(torch.cat(found), whole)


def test_the_generator_is_left_where_one_draw_leaves_it():
    one, other = seeded(3), seeded(3)
    random_vector(50, generator=one)
    InPieces(50, kind="gaussian", generator=other, dtype=torch.float32, block=16).take(50)
    assert torch.equal(one.get_state(), other.get_state())


def test_blocks_have_a_length_that_torch_fills_alike():
    assert BLOCK % 16 == 0
