from pathlib import Path

import numpy as np
import pytest

from meshfold.model.data.source import open_source
from meshfold.model.train.baselines import ease_fits, ease_scores
from meshfold.model.train.config import OverArchKind, TrainConfig
from meshfold.model.train.newcomers import part_of
from meshfold.model.train.training import train


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


@pytest.mark.parametrize("strings", [False, True])
def test_ties_of_a_training_go_to_the_smaller_id(strings: bool, tmp_path: Path) -> None:
    """150 items that one user each met come in a random order: by popularity they are one tie. Of strings the order of
    their UTF-8 bytes counts, in which "é9" is the last."""
    ids = [f"é{k}" if k == 9 else f"{k}" for k in range(150)] if strings else [str(k) for k in range(150)]
    random = np.random.default_rng(0)
    (tmp_path / "items.csv").write_text("id\n" + "".join(f"{ids[k]}\n" for k in random.permutation(150)))
    events = [(user, user) for user in range(150)] + [(user, (user + 1) % 150) for user in range(150)]
    lines = "".join(f"{user},{ids[k]},{time}\n" for time, (user, k) in enumerate(events))
    (tmp_path / "events.csv").write_text("user,item,time\n" + lines)
    kind = 'ids = "strings"\n' if strings else ""
    (tmp_path / "schema.toml").write_text(
        f'surface = "s"\n[items]\nsource = "items.csv"\nid = "id"\n{kind}[interactions]\nsource = "events.csv"\n'
        'user = "user"\nitem = "item"\ntime = "time"\n[tasks.view]\n'
    )
    catalog = open_source(tmp_path).catalog()
    ordered = part_of(catalog, catalog.order())
    assert list(ordered.ids) == sorted(ordered.ids, key=lambda i: i.encode() if isinstance(i, str) else i)
    config = TrainConfig(dimension=2, steps=1, hidden=(4,), over_arch=OverArchKind.NONE)
    metrics = train(open_source(tmp_path), tmp_path / "model", config)
    # Each user's own item is left out; of the other 149 the first 20 are the smallest.
    held = [
        sorted(ids, key=str.encode if strings else int).index(ids[(user + 1) % 150]) for user in range(150)
    ]
    met = [sorted(ids, key=str.encode if strings else int).index(ids[user]) for user in range(150)]
    hits = [h - (m < h) < 20 for h, m in zip(held, met, strict=True)]
    of_view = metrics.rankings["popularity"]["view"]
    assert of_view is not None
    assert of_view.recall[20] == pytest.approx(np.mean(hits))
