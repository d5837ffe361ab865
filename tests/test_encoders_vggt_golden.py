"""VGGT against numbers from the official implementation, with weights that follow from the parameter names.

The token files hold every 8th channel.
"""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from tolerances import RELATIVE_L2
from vggt_weights import fill_by_name, images_by_seed

from tokengroups.encoders.vggt import VGGT, VGGTConfig
from tokengroups.encoders.vggt.pose_encoding import decode_pose, encode_pose
from tokengroups.geometry import world_points

CHANNEL_STEP = 8
SMALL = VGGTConfig(
    embed_dim=384, num_heads=6, dino_depth=12, depth=4, camera_heads=12, dpt_layers=(0, 1, 2, 3),
    dpt_channels=(48, 96, 192, 384), dpt_features=64,
)  # fmt: skip


def relative_l2(actual, expected):
    actual, expected = actual.double(), expected.double()
    return ((actual - expected).norm() / expected.norm()).item()


def check_against(path, config):
    golden = load_file(path)
    batch, views, height, width = golden["shape"].tolist()
    # On the meta device nothing is initialised twice.
    with torch.device("meta"):
        model = VGGT(config)
    model = model.to_empty(device="cpu").eval()
    fill_by_name(model)
    with torch.no_grad():
        out = model(images_by_seed(int(golden["images_seed"]), (batch, views, 3, height, width)))
    for index, tokens in zip(config.dpt_layers, out.tokens, strict=True):
        error = relative_l2(tokens[..., ::CHANNEL_STEP], golden[f"tokens.{index}"])
        assert error < RELATIVE_L2["vggt_tokens"], f"tokens.{index}"
    for iteration, encoding in enumerate(out.pose_encodings):
        assert relative_l2(encoding, golden[f"pose_enc.{iteration}"]) < RELATIVE_L2["vggt_pose"], iteration
    dense = {
        "depth": (out.depth.log(), golden["depth"][..., 0].log()),
        "depth_conf": (out.depth_confidence, golden["depth_conf"]),
        "world_points": (out.points, golden["world_points"]),
        "world_points_conf": (out.points_confidence, golden["world_points_conf"]),
    }
    for name, (actual, expected) in dense.items():
        assert relative_l2(actual, expected) < RELATIVE_L2["vggt_depth_points"], name


def test_small_model_reproduces_the_official_modules(data_dir):
    check_against(data_dir / "vggt_small_b2s3_84x126.safetensors", SMALL)


@pytest.mark.slow
def test_full_size_model_reproduces_the_official_modules(data_dir):
    check_against(data_dir / "vggt_1b_b1s3_56x84.safetensors", VGGTConfig())


def test_pose_decoding_and_encoding_reproduce_the_official_functions(data_dir):
    golden = load_file(data_dir / "pose_encoding.safetensors")
    cam_from_world, intrinsics = decode_pose(golden["pose_enc"], (84, 126))
    assert relative_l2(cam_from_world[..., :3, :], golden["extrinsics"]) < 1e-6
    assert relative_l2(intrinsics, golden["intrinsics"]) < 1e-6
    back = encode_pose(cam_from_world, intrinsics, (84, 126))
    assert relative_l2(back, golden["pose_enc_back"]) < 1e-6


def test_unprojection_reproduces_the_official_function(data_dir):
    golden = load_file(data_dir / "pose_encoding.safetensors")
    cam_from_world, intrinsics = decode_pose(golden["pose_enc"][0], (84, 126))
    # VGGT's own convention puts pixel centres at integers; shifting the principal point says the same.
    intrinsics[..., :2, 2] += 0.5
    points = world_points(golden["depth"][..., 0], cam_from_world, intrinsics)
    assert relative_l2(points, golden["world_points"]) < 1e-6
