"""Names, shapes and constants of VGGT-1B, which the published weights rely on."""

from __future__ import annotations

import ast
import gzip

import pytest
import torch
from torch import nn

from tokengroups.encoders.vggt import VGGT, VGGTConfig
from tokengroups.encoders.vggt.dpt_head import ResidualConvUnit


@pytest.fixture(scope="module")
def full_size():
    with torch.device("meta"):
        return VGGT(VGGTConfig())


def test_state_dict_has_exactly_the_published_names_and_shapes(full_size, data_dir):
    lines = gzip.decompress((data_dir / "vggt_1b_keys.tsv.gz").read_bytes()).decode().splitlines()
    published = {name: ast.literal_eval(shape) for name, shape, _ in (line.split("\t") for line in lines)}
    assert {name: tuple(tensor.shape) for name, tensor in full_size.state_dict().items()} == published
    assert not list(full_size.buffers())


def test_disabled_heads_leave_no_names_behind():
    with torch.device("meta"):
        names = VGGT(VGGTConfig(enable_point=False, enable_depth=False)).state_dict()
    assert {name.split(".")[0] for name in names} == {"aggregator", "camera_head"}


def test_layer_norm_epsilons_are_the_published_ones(full_size):
    for name, module in full_size.named_modules():
        if isinstance(module, nn.LayerNorm):
            assert module.eps == (1e-6 if name.startswith("aggregator.patch_embed.") else 1e-5), name


def test_queries_and_keys_are_normalised_in_the_trunk_only(full_size):
    for name, module in full_size.named_modules():
        if name.endswith(("attn.q_norm", "attn.k_norm")):
            in_trunk = name.startswith(("aggregator.frame_blocks", "aggregator.global_blocks"))
            assert isinstance(module, nn.LayerNorm) == in_trunk, name


def test_residual_unit_skips_the_rectified_input():
    unit = ResidualConvUnit(4)
    for parameter in unit.parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(1, 4, 3, 3)
    assert torch.equal(unit(x), x.relu())
