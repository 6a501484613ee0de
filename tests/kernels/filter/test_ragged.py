import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meshfold.kernels.filter.ragged import ranges


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 7)), max_size=12))
def test_ranges_are_those_of_python_one_after_the_other(pieces: list[tuple[int, int]]) -> None:
    starts = torch.tensor([start for start, _ in pieces], dtype=torch.int64)
    lengths = torch.tensor([length for _, length in pieces], dtype=torch.int64)
    expected = [i for start, length in pieces for i in range(start, start + length)]
    result = ranges(starts, lengths)
    assert result.dtype == torch.int64
    assert result.tolist() == expected
