"""VGGT against numbers from the official implementation, with weights that follow from the parameter names.

The token files hold every 8th channel.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from golden_file import Comparison, read_golden
from golden_vggt import compare_vggt, network_config
from tolerances import RELATIVE_L2

from tokengroups.encoders.vggt import VGGTConfig
from tokengroups.errors import UserError

SMALL = VGGTConfig(
    embed_dim=384, num_heads=6, dino_depth=12, depth=4, camera_heads=12, dpt_layers=(0, 1, 2, 3),
    dpt_channels=(48, 96, 192, 384), dpt_features=64,
)  # fmt: skip
FUNCTIONS = ["extrinsics", "intrinsics", "pose_enc_back", "world_points"]


def gate_of(name: str) -> float:
    kind = name.partition(".")[0]
    kinds = {"tokens": "vggt_tokens", "pose_enc": "vggt_pose", "extrinsics": "vggt_pose"}
    return RELATIVE_L2[kinds.get(kind, "vggt_depth_points")]


def check_network(path: Path, config: VGGTConfig) -> None:
    golden = read_golden(path)
    assert network_config(golden) == config
    rows = compare_vggt(golden)
    inputs = {"images_seed", "shape"}
    assert {row.name.replace("log depth", "depth") for row in rows} == set(golden.tensors) - inputs
    for row in rows:
        assert row.error < gate_of(row.name), row
        assert row.gate == gate_of(row.name), row


def test_small_model_reproduces_the_official_modules(data_dir):
    check_network(data_dir / "vggt_small_b2s3_84x126.safetensors", SMALL)


@pytest.mark.slow
def test_full_size_model_reproduces_the_official_modules(data_dir):
    check_network(data_dir / "vggt_1b_b1s3_56x84.safetensors", VGGTConfig())


def test_pose_encodings_and_unprojection_reproduce_the_official_functions(data_dir):
    rows = compare_vggt(read_golden(data_dir / "pose_encoding.safetensors"))
    assert [row.name for row in rows] == FUNCTIONS
    for row in rows:
        assert row.error < 1e-6, row


def test_the_size_of_pose_encodings_follows_from_the_metadata_or_the_cameras(data_dir):
    golden = read_golden(data_dir / "pose_encoding.safetensors")
    cameras = {name: golden.tensors[name] for name in ("pose_enc", "extrinsics", "intrinsics", "pose_enc_back")}

    def names(rows: list[Comparison]) -> list[str]:
        return [row.name for row in rows if row.passed]

    assert names(compare_vggt(replace(golden, tensors=cameras))) == FUNCTIONS[:3]
    assert names(compare_vggt(replace(golden, metadata={"size_hw": [84, 126]}))) == FUNCTIONS
    turned = compare_vggt(replace(golden, metadata={"size_hw": [126, 84]}))
    assert names(turned) == ["extrinsics", "pose_enc_back"]  # neither depends on the size
    with pytest.raises(UserError, match="size of the images is missing"):
        compare_vggt(replace(golden, tensors={"pose_enc": cameras["pose_enc"]}))


def test_sizes_are_read_from_the_metadata(data_dir):
    golden = read_golden(data_dir / "vggt_small_b2s3_84x126.safetensors")
    facts = {
        "embed_dim": 48, "num_heads": 4, "dino_num_heads": 4, "dino_depth": 2, "depth": 5, "camera_heads": 8,
        "block_mlp_ratio": 2, "register_tokens": 3, "pos_embed_image_size": 126, "dpt_layers": [0, 1, 2, 4],
        "dpt_out_channels": [16, 24, 32, 40], "dpt_features": 48,
    }  # fmt: skip
    assert network_config(replace(golden, metadata=facts)) == VGGTConfig(
        embed_dim=48, num_heads=4, dino_depth=2, depth=5, camera_heads=8, mlp_ratio=2, num_registers=3,
        image_size=126, dpt_layers=(0, 1, 2, 4), dpt_channels=(16, 24, 32, 40), dpt_features=48,
    )  # fmt: skip
    without_points = {name: t for name, t in golden.tensors.items() if "points" not in name}
    assert network_config(replace(golden, tensors=without_points)) == replace(SMALL, enable_point=False)
    with pytest.raises(UserError, match="lacks camera_heads, dino_depth of a network of width 48"):
        network_config(
            replace(golden, metadata={k: facts[k] for k in facts if k not in ("camera_heads", "dino_depth")})
        )
    with pytest.raises(UserError, match="DINO and trunk differ"):
        network_config(replace(golden, metadata=facts | {"dino_num_heads": 2}))
    odd = golden.tensors | {"tokens.0": torch.zeros(1, 1, 1, 14)}
    with pytest.raises(UserError, match="width of the network is unknown"):
        network_config(replace(golden, tensors=odd))


def test_another_salt_of_the_weights_is_another_network(data_dir):
    golden = read_golden(data_dir / "vggt_small_b2s3_84x126.safetensors")
    rows = compare_vggt(replace(golden, metadata={"weight_salt": "x"}))
    assert not any(row.passed for row in rows)
