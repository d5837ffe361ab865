"""What the tiny encoder has in addition to VGGT: stem, descriptors, the single-view network's part in its answer."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.test_encoders_vggt_model import SIZES, images, tensors
from tests.test_encoders_vggt_model import TINY as POINTS_TOO
from tests.tiny_encoder import TINY, WITH_SINGLE_VIEW
from tests.tolerances import tolerance
from tokengroups.encoders.base import MATCH_DESCRIPTORS, PAIR_AFFINITY, PAIR_OFFSETS, SINGLE_VIEW_FEATURES, Encoder
from tokengroups.encoders.vggt.pose_encoding import decode_pose
from tokengroups.encoders.vggt_tiny import VGGTTiny, VGGTTinyConfig
from tokengroups.encoders.vggt_tiny.fusion import depth_change, focal_factor
from tokengroups.encoders.vggt_tiny.model import with_single_view

WITH_DETAILS = replace(WITH_SINGLE_VIEW, single_view_details=8)


@pytest.fixture
def encoder() -> VGGTTiny:
    torch.manual_seed(0)
    return VGGTTiny(WITH_SINGLE_VIEW).eval()


@pytest.mark.parametrize("heads_autocast", [False, True])
def test_bfloat16_stays_close_and_answers_in_float32(heads_autocast):
    model = VGGTTiny(replace(POINTS_TOO, heads_autocast=heads_autocast))
    x = images()
    with torch.autocast("cpu", torch.bfloat16):
        half = model(x)
    full = model(x)
    for name, expected in tensors(full).items():
        actual = tensors(half)[name]
        assert actual.dtype == torch.float32, name
        assert ((actual - expected).norm() / expected.norm()).item() < 3e-2, name


def test_heads_autocast_decides_whether_autocast_reaches_the_heads():
    ways = {}
    for heads_autocast in (False, True):
        model = VGGTTiny(replace(POINTS_TOO, heads_autocast=heads_autocast))
        seen = []
        conv = model.depth_head.scratch.output_conv1
        conv.register_forward_hook(lambda *call, seen=seen: seen.append(call[-1].dtype))
        with torch.autocast("cpu", torch.bfloat16):
            model(images())
        ways[heads_autocast] = seen
    assert ways == {False: [torch.float32], True: [torch.bfloat16]}


@pytest.mark.parametrize("changes", [{"stem_skip": False}, {"matching": False}])
def test_each_part_can_be_left_out(changes):
    config = replace(POINTS_TOO, **changes)
    model = VGGTTiny(config)
    out = model(images())
    sum(x.float().square().mean() for x in tensors(out).values()).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    names = {name for name, _ in model.named_parameters()}
    assert any(name.startswith("matching.") for name in names) == config.matching
    assert any(".stem_skips." in name for name in names) == config.stem_skip
    assert (out.match_descriptors is None) == (not config.matching)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stem_channels": (4, 8)}, "patch_size is 16"),
        ({"patch_size": 4, "stem_channels": (4, 8), "stem_skip": False}, "need stem_channels"),
        ({"patch_size": 4, "stem_channels": (4, 8), "matching": False}, "need stem_channels"),
        ({"image_size": 60}, "image_size"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        VGGTTinyConfig(**{**SIZES, "stem_channels": (4, 8, 8, 16), **changes})


def test_details_that_do_not_fit_are_refused() -> None:
    for channels, details in (((8, 32), 8), ((8, 8, 32), 12), ((8, 8, 32), -8), ((), 8)):
        with pytest.raises(ValueError, match="single_view_details must be (a multiple of 8 and needs|.* from 0 to)"):
            replace(TINY, single_view_channels=channels, single_view_details=details)


def test_cameras_take_the_single_view_focal_length_in(encoder) -> None:
    photos = torch.rand(2, 3, 3, 32, 32)
    with torch.no_grad():
        single = encoder.predict_single_view(photos)
        _, predicted = decode_pose(encoder(photos).pose_encodings[-1], (32, 32))
        cameras = encoder.encode(photos).cameras
        alone = VGGTTiny(TINY).eval()
        alone.load_state_dict(
            {name: x for name, x in encoder.state_dict().items() if not name.startswith("single_view.")}
        )
        without = alone.encode(photos).cameras
    assert single is not None and single.log_focal.shape == (2, 3)
    factor = focal_factor(predicted, single, (32, 32))
    assert (factor - 1).abs().min() > 1e-4
    focal = (without.intrinsics[..., 0, 0] * without.intrinsics[..., 1, 1]).sqrt() * factor
    for axis in (0, 1):
        torch.testing.assert_close(cameras.intrinsics[..., axis, axis], focal, **tolerance("float32"))
    assert torch.equal(cameras.cam_from_world, without.cam_from_world)
    assert torch.equal(cameras.intrinsics[..., 2], without.intrinsics[..., 2])


def test_the_depth_is_the_head_s_without_a_single_view_network(encoder) -> None:
    photos = torch.rand(2, 3, 3, 32, 32)
    with torch.no_grad():
        output, single = encoder(photos), encoder.predict_single_view(photos)
        assert output.depth is not None and single is not None
        both = encoder.geometry(photos, output).depth
        encoder.single_view = None
        assert torch.equal(encoder.geometry(photos, output).depth, output.depth.float())
    assert both.shape == output.depth.shape and not torch.equal(both, output.depth.float())
    change = depth_change(output.depth[1], single.log_depth[1])
    torch.testing.assert_close(both[1], output.depth[1] * change.exp())


def test_training_leaves_the_single_view_network_out(encoder) -> None:
    """The other heads' training sees their own errors, and asks nothing of the network."""
    photos = torch.rand(1, 3, 3, 32, 32)
    with torch.no_grad():
        fused = encoder.encode(photos)
    asked = []
    encoder.single_view.register_forward_hook(lambda *_: asked.append(1))
    output = encoder.train()(photos)
    geometry = encoder.geometry(photos, output)
    assert not asked and SINGLE_VIEW_FEATURES not in geometry.evidence
    assert torch.equal(geometry.depth, output.depth) and not torch.equal(geometry.depth, fused.depth)


@pytest.mark.parametrize("config", [replace(TINY, matching=False), TINY, WITH_SINGLE_VIEW, WITH_DETAILS])
def test_evidence_is_what_is_announced(config) -> None:
    """Names, channels and shapes; a step may rely on `evidence_dims` before anything is encoded."""
    encoder = VGGTTiny(config).eval()
    with torch.no_grad():
        evidence = encoder.encode(torch.rand(2, 3, 3, 32, 48)).evidence
    assert isinstance(encoder, Encoder)
    assert evidence.keys() == encoder.evidence_dims.keys()
    shapes = {
        MATCH_DESCRIPTORS: [(2, 3, 8 * 12, 8)],
        SINGLE_VIEW_FEATURES: [(2, 3, 48, 16, 16), (2, 3, 8, 32, 32)][: len(config.single_view_dims)],
        PAIR_AFFINITY: [(2, 3, len(PAIR_OFFSETS), 32, 32)],
    }
    channel_axis = {MATCH_DESCRIPTORS: -1, SINGLE_VIEW_FEATURES: 2, PAIR_AFFINITY: 2}
    for name, value in evidence.items():
        maps = value if isinstance(value, tuple) else (value,)
        assert [tuple(tensor.shape) for tensor in maps] == shapes[name], name
        channels = tuple(tensor.shape[channel_axis[name]] for tensor in maps)
        assert channels == encoder.evidence_dims[name], name


def test_given_intrinsics_take_the_place_of_both_predictions(encoder) -> None:
    given = torch.tensor([[40.0, 0, 15], [0, 41, 17], [0, 0, 1]]).expand(1, 2, 3, 3)
    with torch.no_grad():
        geometry = encoder.encode(torch.rand(1, 2, 3, 32, 32), given)
    assert torch.equal(geometry.cameras.intrinsics, given)


def test_a_single_view_network_is_added_to_a_configuration() -> None:
    config = with_single_view(TINY, (8, 8, 16, 32), 2, 16)
    assert replace(config, single_view_channels=(), single_view_depth=3, single_view_details=0) == TINY
    assert config.single_view_dims == (48, 16) and TINY.single_view_dims == ()
    assert WITH_SINGLE_VIEW.single_view_dims == (48,)
