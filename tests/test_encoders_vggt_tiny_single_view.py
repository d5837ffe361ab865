"""The perspective network: its cues, what they are compared with, and how focal lengths take them in."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from tokengroups.encoders.vggt_tiny.depth_fusion import (
    CUES_SHARE,
    LARGEST_DIFFERENCE,
    depth_change,
    encoder_depth,
)
from tokengroups.encoders.vggt_tiny.focal_fusion import HEAD_DEVIATION, focal_factor
from torch.nn import functional

from tests.test_training_geometry import TINY
from tests.tolerances import tolerance
from tokengroups.data.augment import collate, mirror, square_views
from tokengroups.encoders.vggt import VGGT, encoder_cameras
from tokengroups.encoders.vggt_tiny.single_view import REACHES, PerspectiveNetwork, central_square
from tokengroups.geometry import rigid, unproject
from tokengroups.losses.single_view import (
    PerspectiveLossWeights,
    perspective_losses,
    perspective_targets,
    same_object_loss,
    with_same_object,
)
from tokengroups.types import Cameras, PerspectiveCues, Views

SIDE, FOCAL, CELLS = 64, 50.0, 16
CONFIG = replace(TINY, perspective_channels=(8, 8, 16, 32), perspective_depth=1)


def floor(pitch: float, roll: float, height: float = 1.5) -> Views:
    """One view of an endless floor from above; it fills the lower part of the photo, the rest is unknown."""
    torch.manual_seed(0)
    c, s = math.cos(pitch), math.sin(pitch)
    look = torch.tensor([[1.0, 0, 0], [0, -s, -c], [0, c, -s]])  # rows: right, down, forward; world z up
    c, s = math.cos(roll), math.sin(roll)
    rotation = torch.tensor([[c, s, 0], [-s, c, 0], [0, 0, 1.0]]) @ look
    intrinsics = torch.tensor([[FOCAL, 0, SIDE / 2], [0, FOCAL, SIDE / 2], [0, 0, 1]])
    up = rotation[:, 2]
    falling = -(unproject(torch.ones(SIDE, SIDE), intrinsics) @ up)
    depth = torch.where(falling > 0.2, height / falling, 0.0)
    pose = rigid(rotation, -rotation @ torch.tensor([0.0, 0, height]))
    cameras = Cameras(pose[None], intrinsics[None], (SIDE, SIDE))
    return Views(torch.rand(1, 3, SIDE, SIDE), cameras, depth[None], torch.zeros(1, SIDE, SIDE).long())


def cues(count: int) -> PerspectiveCues:
    torch.manual_seed(1)
    return PerspectiveCues(
        log_focal=torch.randn(count) * 0.1 - 0.2,
        deviation=torch.rand(count) * 0.1 + 0.05,
        up=torch.randn(count, 3),
        normals=torch.randn(count, 3, CELLS, CELLS),
        log_depth=torch.randn(count, CELLS, CELLS),
    )


def test_a_floor_s_normals_point_up() -> None:
    """Whatever the camera's pitch and roll: as cues, normals and the up vector are one for a floor."""
    targets = [
        perspective_targets(collate([floor(pitch, roll)]), CELLS) for pitch, roll in ((0.4, 0.1), (0.9, -0.3))
    ]
    for target in targets:
        assert 0.3 < target.valid.float().mean() <= 1
        assert float(target.log_focal) == pytest.approx(math.log(FOCAL / SIDE))
        up = target.up[:, :, None, None].expand_as(target.normals)
        alike = (up * target.normals).sum(dim=1)[target.valid]
        torch.testing.assert_close(alike.abs(), torch.ones_like(alike), **tolerance("float32_chain"))
        assert alike.sign().unique().numel() == 1  # normals never change sides within a surface
    assert torch.equal(targets[0].log_depth.isfinite(), torch.ones_like(targets[0].valid))


def test_targets_are_mirrored_with_the_photos() -> None:
    views = floor(0.5, 0.2)
    straight = perspective_targets(collate([views]), CELLS)
    mirrored = perspective_targets(collate([mirror(views)]), CELLS)
    # A cell's middle is the pixel right of its centre line; mirrored, the one left of it: a pixel apart.
    flip = torch.tensor([-1.0, 1, 1])
    torch.testing.assert_close(mirrored.up, straight.up * flip)
    torch.testing.assert_close(mirrored.log_focal, straight.log_focal)
    both = mirrored.valid & straight.valid.flip(-1)
    normals = straight.normals.flip(-1) * flip[:, None, None]
    apart = functional.cosine_similarity(normals, mirrored.normals, dim=1)[both]
    assert both.float().mean() > 0.3
    torch.testing.assert_close(apart.abs(), torch.ones_like(apart), **tolerance("float32_chain"))


def test_an_enlarged_photo_has_a_longer_focal_length() -> None:
    views = floor(0.6, 0.0)
    zoomed = perspective_targets(collate([square_views(views, SIDE, zoom=1.28)]), CELLS)
    target = perspective_targets(collate([views]), CELLS)
    torch.testing.assert_close(zoomed.log_focal, target.log_focal + math.log(1.28))
    torch.testing.assert_close(zoomed.up, target.up)


def test_losses_equal_loops_in_float64() -> None:
    views = collate([floor(0.4, 0.1), floor(0.8, 0.0)])
    target, cue = perspective_targets(views, CELLS), cues(2)
    losses = perspective_losses(cue, target, PerspectiveLossWeights(up=3.0, normals=0.5, depth=2.0))
    focal, up, normals, depth = [], [], [], []
    for n in range(2):
        one = cue.map(lambda t, n=n: t[n].double())
        true_up, true_normals = target.up[n].double(), target.normals[n].double()
        spread = float(one.deviation)
        focal.append(abs(float(one.log_focal) - float(target.log_focal[n])) / spread + math.log(spread))
        up.append(1 - float(one.up / one.up.norm() @ true_up / true_up.norm()))
        cells = [(i, j) for i in range(CELLS) for j in range(CELLS) if target.valid[n, i, j]]
        angles, offsets = [], []
        for i, j in cells:
            a, b = one.normals[:, i, j], true_normals[:, i, j]
            angles.append(1 - float(a @ b / a.norm() / b.norm()))
            offsets.append(float(one.log_depth[i, j]) - float(target.log_depth[n, i, j]))
        mean = sum(offsets) / len(offsets)
        normals.append(sum(angles) / len(angles))
        depth.append(sum(abs(offset - mean) for offset in offsets) / len(offsets))
    parts = [sum(values) / 2 for values in (focal, up, normals, depth)]
    found = [float(part) for part in (losses.focal, losses.up, losses.normals, losses.depth)]
    assert found == pytest.approx(parts, rel=1e-4)
    assert float(losses.total) == pytest.approx(
        parts[0] + 3 * parts[1] + 0.5 * parts[2] + 2 * parts[3], rel=1e-4
    )


def test_unknown_depth_counts_for_nothing() -> None:
    views = collate([floor(0.4, 0.1)])
    unknown = replace(views, depth=torch.zeros_like(views.depth))
    losses = perspective_losses(cues(1), perspective_targets(unknown, CELLS), PerspectiveLossWeights())
    assert float(losses.normals) == 0 and float(losses.depth) == 0
    assert math.isfinite(float(losses.total))
    with pytest.raises(ValueError, match=">= 0"):
        PerspectiveLossWeights(up=-1.0)


def test_the_same_object_loss_equals_a_loop_in_float64() -> None:
    torch.manual_seed(2)
    cells, side = 8, 32
    logits = torch.randn(3, len(REACHES), cells, cells)
    ids = torch.randint(-1, 3, (3, side, side))
    means = []
    for index, (down, right) in enumerate(REACHES):
        entropies = []
        for n, i, j in torch.cartesian_prod(
            torch.arange(3), torch.arange(cells), torch.arange(cells)
        ).tolist():
            if i + down >= cells or j + right >= cells:
                continue
            own, other = (int(ids[n, 4 * r + 2, 4 * c + 2]) for r, c in ((i, j), (i + down, j + right)))
            if own < 0 or other < 0:
                continue
            same = 1 / (1 + math.exp(-float(logits[n, index, i, j])))
            entropies.append(-math.log(same if own == other else 1 - same))
        means.append(sum(entropies) / len(entropies) if entropies else 0.0)
    found = same_object_loss(logits, ids, REACHES)
    assert float(found) == pytest.approx(sum(means) / len(REACHES), rel=1e-5)  # nothing is 8 cells away here
    unlabelled = torch.full_like(ids, -1)
    assert float(same_object_loss(logits, unlabelled, REACHES)) == 0
    losses = perspective_losses(
        cues(3), perspective_targets(collate([floor(0.4, 0.1)] * 3), CELLS), PerspectiveLossWeights()
    )
    added = with_same_object(losses, logits, ids[:, None], REACHES, weight=3.0)
    assert added.same_object == found
    torch.testing.assert_close(added.total, losses.total + 3 * found)


@pytest.mark.parametrize("details", [0, 16])
def test_features_are_what_the_maps_are_made_from(details: int) -> None:
    torch.manual_seed(0)
    network = PerspectiveNetwork((8, 16, 24, 32), depth=1, details=details).eval()
    said = network(torch.rand(2, 3, 64, 64))
    assert [tuple(m.shape) for m in said.features] == [(2, 56, 16, 16), (2, details, 32, 32)][
        : 1 + bool(details)
    ]
    again = network.maps(said.features[0])
    assert torch.equal(again[:, :3], said.normals) and torch.equal(again[:, 3], said.log_depth)
    assert (said.same_object is None) == (details == 0)
    if network.details is not None:
        assert said.same_object is not None and said.same_object.shape == (2, len(REACHES), 32, 32)
        assert torch.equal(network.details.same_object(said.features[1]), said.same_object)


def test_details_that_do_not_fit_are_refused() -> None:
    for channels, details in (((8, 32), 8), ((8, 8, 32), 12), ((8, 8, 32), -8), ((), 8)):
        with pytest.raises(ValueError, match="perspective_details must be a multiple of 8 and needs"):
            replace(TINY, perspective_channels=channels, perspective_details=details)


@pytest.mark.parametrize("size", [(128, 128), (64, 96), (200, 136)])
def test_photos_of_any_size_one_by_one_or_together(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = PerspectiveNetwork((8, 8, 16, 32), depth=1).eval()
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
    assert torch.equal(central_square(photo, 64), photo[..., 18:82])
    network = PerspectiveNetwork((8, 8, 16, 32), depth=1).eval()
    assert torch.equal(network(photo).log_focal, network(changed).log_focal)


def test_opinions_on_the_focal_length_are_weighted_by_their_variances() -> None:
    intrinsics = torch.eye(3).expand(1, 2, 3, 3).clone()
    intrinsics[:, :, 0, 0], intrinsics[:, :, 1, 1] = 60.0, 60.0
    said = PerspectiveCues(
        log_focal=torch.tensor([[math.log(66 / 64) - 0.02, math.log(66 / 64) + 0.02]]),
        deviation=torch.zeros(1, 2),
        up=torch.zeros(1, 2, 3),
        normals=torch.zeros(1, 2, 3, CELLS, CELLS),
        log_depth=torch.zeros(1, 2, CELLS, CELLS),
    )
    size_hw = (64, 96)  # the shorter side is what focal lengths are measured in
    for deviation, share in ((0.0, 1.0), (HEAD_DEVIATION, 0.5), (1e6, 0.0)):
        factor = focal_factor(intrinsics, replace(said, deviation=torch.full((1, 2), deviation)), size_hw)
        assert float(factor) == pytest.approx((66 / 60) ** share, rel=1e-5)


def test_cameras_take_the_cues_in() -> None:
    torch.manual_seed(0)
    encoder = VGGT(CONFIG).eval()
    photos = torch.rand(2, 3, 3, 32, 32)
    with torch.no_grad():
        output = encoder(photos)
    assert output.perspective is not None and output.perspective.log_focal.shape == (2, 3)
    alone = encoder_cameras(replace(output, perspective=None), (32, 32))
    cameras = encoder_cameras(output, (32, 32))
    factor = focal_factor(alone.intrinsics, output.perspective, (32, 32))
    assert (factor - 1).abs().min() > 1e-4
    torch.testing.assert_close(
        cameras.intrinsics[..., 0, 0], alone.intrinsics[..., 0, 0] * factor, **tolerance("float32")
    )
    torch.testing.assert_close(
        cameras.intrinsics[..., 1, 1], alone.intrinsics[..., 1, 1] * factor, **tolerance("float32")
    )
    assert torch.equal(cameras.cam_from_world, alone.cam_from_world)
    assert torch.equal(cameras.intrinsics[..., 2], alone.intrinsics[..., 2])
    assert encoder.train()(photos[:1]).perspective is None  # the other heads' training leaves it alone


def ramp(height: int, width: int) -> torch.Tensor:
    """Logarithms of a depth that grows to the right and downwards."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return 0.01 * x + 0.004 * y


@pytest.mark.parametrize("size_hw", [(64, 64), (48, 64), (80, 64)])
def test_depth_moves_towards_what_single_photos_tell(size_hw) -> None:
    """Smoothly bent depth, cues that know better up to a factor: the share of the way, on the square that they see."""
    height, width = size_hw
    side = min(size_hw)
    top, left = (height - side) // 2, (width - side) // 2
    middles = ((torch.arange(CELLS) + 0.5) * (side / CELLS)).long()
    truth = ramp(height, width).expand(2, -1, -1)
    bent = truth + 0.1 * ((torch.arange(width) + 0.5) / width - 0.5)
    told = truth[:, (top + middles)[:, None], left + middles] + torch.tensor([0.7, -0.4])[:, None, None]
    change = depth_change(bent.exp(), told)
    expected = CUES_SHARE * (truth - bent)
    inner = (..., slice(top + 8, top + side - 8), slice(left + 8, left + side - 8))
    difference = (change - expected)[inner]
    assert (difference - difference.mean()).abs().max() < 0.004  # cells' middles are whole pixels
    assert difference.mean().abs() < 0.005
    if height > width:
        assert torch.equal(change[:, 0], change[:, top]) and torch.equal(
            change[:, -1], change[:, top + side - 1]
        )


def test_equal_opinions_leave_the_depth_and_wild_ones_are_bounded() -> None:
    depth = ramp(64, 64)[None].exp()
    middles = ((torch.arange(CELLS) + 0.5) * (64 / CELLS)).long()
    same = depth[:, middles[:, None], middles].log() + 3
    torch.testing.assert_close(depth_change(depth, same), torch.zeros_like(depth), rtol=0, atol=1e-6)
    wild = same.clone()
    wild[:, 5, 7] += 100
    change = depth_change(depth, wild)
    assert 0 < change.max() <= CUES_SHARE * LARGEST_DIFFERENCE / 9 + 1e-6  # one of nine cells
    assert (change != 0).float().mean() < 0.1


def test_encoder_depth_is_the_head_s_without_cues() -> None:
    torch.manual_seed(0)
    model = VGGT(CONFIG).eval()
    with torch.no_grad():
        output = model(torch.rand(2, 3, 3, 32, 32))
    assert output.depth is not None and output.perspective is not None
    assert torch.equal(encoder_depth(replace(output, perspective=None)), output.depth.float())
    both = encoder_depth(output)
    assert both.shape == output.depth.shape and not torch.equal(both, output.depth.float())
    log_depth = output.perspective.log_depth[1]
    torch.testing.assert_close(both[1], output.depth[1] * depth_change(output.depth[1], log_depth).exp())
