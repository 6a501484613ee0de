import pytest
import torch

from meshfold.kernels.expect import expect


def test_letters_fit_any_size_and_numbers_only_theirs() -> None:
    tensor = torch.zeros((2, 0, 3), dtype=torch.int8)
    expect("x", tensor, ("B", "N", 3), torch.int8)
    expect("x", torch.tensor(1.0), (), torch.float32)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        (("B", 3), torch.int8),
        (("B", 2, "D", 1), torch.int8),
        ((2,), torch.int8),
        (("B", 2), torch.int16),
    ],
)
def test_what_does_not_fit_is_named_with_both_shapes(shape: tuple[int | str, ...], kind: torch.dtype) -> None:
    with pytest.raises(ValueError, match=r"^codes must be \[.*\] int\d+, got \[4, 2\] int8$"):
        expect("codes", torch.zeros((4, 2), dtype=torch.int8), shape, kind)
