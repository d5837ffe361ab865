"""LoRA: its formula, where it is, and merging."""

from __future__ import annotations

import re
from dataclasses import replace

import torch
from segvggt_networks import CONFIG, SIZES, small
from tolerances import tolerance
from torch import nn

from tokengroups.encoders.vggt import VGGT
from tokengroups.systems.segvggt.lora import LoRALinear, add_lora, merge_lora
from tokengroups.systems.segvggt.queries import Reading

ASKED = Reading(states=True, frame_attention=True)


@torch.no_grad()
def test_merged_and_unmerged_weights_agree() -> None:
    network, images = small(), torch.rand(2, 2, 3, 28, 42)
    unmerged = network(images, ASKED)[1]
    plain = {re.sub(r"\.linear\.", ".", name) for name in network.encoder.state_dict() if "lora_" not in name}
    merge_lora(network.encoder.aggregator)
    assert set(network.encoder.state_dict()) == plain
    assert not [m for m in network.modules() if isinstance(m, LoRALinear)]
    merged = network(images, ASKED)[1]
    for name in ("queries", "features", "class_logits", "frame_attention"):
        torch.testing.assert_close(getattr(merged, name), getattr(unmerged, name), **tolerance("float32_chain"))


@torch.no_grad()
def test_lora_is_alpha_over_rank_times_b_a() -> None:
    layer, x = nn.Linear(5, 7).double(), torch.randn(3, 5, dtype=torch.float64)
    adapted = LoRALinear(layer, rank=4, alpha=6.0)
    assert torch.equal(adapted(x), layer(x))
    adapted.lora.lora_B.weight.normal_()
    b, a = adapted.lora.lora_B.weight, adapted.lora.lora_A.weight
    expected = x @ (layer.weight + 1.5 * b @ a).T + layer.bias
    torch.testing.assert_close(adapted(x), expected, **tolerance("float64"))
    torch.testing.assert_close(adapted.merged()(x), expected, **tolerance("float64"))


def test_lora_adapts_the_trunk_s_attention_alone() -> None:
    encoder = VGGT(SIZES)
    add_lora(encoder.aggregator, 3, 3.0)
    adapted = {name for name, module in encoder.named_modules() if isinstance(module, LoRALinear)}
    assert adapted == {
        f"aggregator.{kind}_blocks.{i}.attn.{layer}"
        for kind in ("frame", "global") for i in range(5) for layer in ("qkv", "proj")
    }  # fmt: skip


def test_without_rank_the_trunk_is_left_alone() -> None:
    network = small(replace(CONFIG, lora_rank=0))
    assert set(network.encoder.state_dict()) == set(VGGT(replace(SIZES, enable_point=False)).state_dict())
