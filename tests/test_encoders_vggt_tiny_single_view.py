"""The single-view network: what it looks at, and what its maps are made from."""

from __future__ import annotations

import pytest
import torch

from tests.tolerances import tolerance
from tokengroups.encoders.base import PAIR_OFFSETS
from tokengroups.encoders.vggt_tiny import SingleViewNetwork
from tokengroups.encoders.vggt_tiny.single_view import resized_square


@pytest.mark.parametrize("details", [0, 16])
def test_features_are_what_the_maps_are_made_from(details: int) -> None:
    torch.manual_seed(0)
    network = SingleViewNetwork((8, 16, 24, 32), depth=1, detail_channels=details).eval()
    prediction = network(torch.rand(2, 3, 64, 64))
    assert [tuple(m.shape) for m in prediction.features] == [(2, 56, 16, 16), (2, details, 32, 32)][: 1 + bool(details)]
    again = network.maps(prediction.features[0])
    assert torch.equal(again[:, :3], prediction.normals) and torch.equal(again[:, 3], prediction.log_depth)
    assert (prediction.pair_affinity is None) == (details == 0)
    if network.details is not None:
        assert prediction.pair_affinity is not None and prediction.pair_affinity.shape == (2, len(PAIR_OFFSETS), 32, 32)
        assert torch.equal(network.details.pair_affinity(prediction.features[1]), prediction.pair_affinity)


@pytest.mark.parametrize("size", [(128, 128), (64, 96), (200, 136)])
def test_photos_of_any_size_one_by_one_or_together(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = SingleViewNetwork((8, 8, 16, 32), depth=1).eval()
    for parameter in network.parameters():  # residual blocks start as the identity
        parameter.data += 0.02 * torch.randn_like(parameter)
    photos = torch.rand(2, 3, *size)
    both = network(photos)
    assert both.normals.shape == (2, 3, 16, 16) and (both.deviation > 0).all()
    alone = [network(photos[n : n + 1]) for n in range(2)]
    for name in ("log_focal", "deviation", "up", "normals", "log_depth"):
        single = torch.cat([getattr(answer, name) for answer in alone])
        torch.testing.assert_close(getattr(both, name), single, **tolerance("float32_chain"))
    assert not torch.allclose(both.log_focal[0], both.log_focal[1])


def test_only_the_central_square_is_looked_at() -> None:
    photo = torch.rand(1, 3, 64, 100)
    changed = photo.clone()
    changed[..., :18] = 0
    changed[..., 82:] = 1
    assert torch.equal(resized_square(photo, 64), photo[..., 18:82])
    network = SingleViewNetwork((8, 8, 16, 32), depth=1).eval()
    assert torch.equal(network(photo).log_focal, network(changed).log_focal)
