"""Storing films in other ways: what changes, what stays, and that a seed decides."""

import torch

from cxrseg.training.storage import StorageChanges


def films(count: int = 24) -> torch.Tensor:
    torch.manual_seed(3)
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 64), indexing="ij")
    film = 0.4 + 0.3 * torch.sin(8 * rows) * torch.cos(6 * columns) + 0.05 * torch.rand(64, 64)
    return film.clamp(0, 1).expand(count, 1, 64, 64).contiguous()


def test_films_keep_their_picture_range_and_shape() -> None:
    before = films()
    torch.manual_seed(0)
    after = StorageChanges(1.0)(before)
    assert after.shape == before.shape and after.dtype == torch.float32
    assert after.min() >= 0 and after.max() <= 1
    changed = (after - before).abs().flatten(1).max(1).values > 1e-4
    assert 10 < changed.sum() < 24  # some films are left as they are
    assert (after - before).abs().mean() < 0.03
    correlation = torch.corrcoef(torch.stack([after.mean((0, 1)).flatten(), before[0, 0].flatten()]))[0, 1]
    assert correlation > 0.98


def test_no_strength_changes_nothing() -> None:
    before = films(4)
    assert torch.equal(StorageChanges(0.0)(before), before)


def test_the_seed_decides() -> None:
    before, drawn = films(6), []
    for seed in (1, 1, 11):
        torch.manual_seed(seed)
        drawn.append(StorageChanges(1.0)(before))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
