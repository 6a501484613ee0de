import numpy as np
import pytest

from meshfold.model.train.baselines import ease_fits, ease_scores


@pytest.mark.parametrize(("users", "items"), [(7, 12), (12, 7), (9, 9)])
def test_ease_is_the_closed_form(users: int, items: int) -> None:
    met = np.random.default_rng(1).random((users, items)) < 0.4
    x = met.astype(np.float64)
    p = np.linalg.inv(x.T @ x + 3.0 * np.eye(items))
    b = np.eye(items) - p / np.diag(p)
    assert not np.diag(b).any()
    np.testing.assert_allclose(ease_scores(met, 3.0).numpy(), x @ b, atol=1e-6)


def test_ease_is_left_out_where_it_is_too_large() -> None:
    assert ease_fits(610, 9_742)
    assert not ease_fits(10_000, 9_742)
    assert not ease_fits(5_000, 100_000)
