"""Gradient checkpointing of SegVGGT's blocks: the same gradients from fewer saved bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from segvggt_networks import CONFIG, SIZES, small
from torch import Tensor

from tokengroups.systems.segvggt.config import QueryConfig
from tokengroups.systems.segvggt.network import SegVGGTNetwork
from tokengroups.systems.segvggt.queries import PLAIN, Reading
from tokengroups.training.experiments import read_experiment

ASKED = Reading(states=True, frame_attention=True)


class SavedBytes(torch.autograd.graph.saved_tensors_hooks):
    """Size of all memory that a forward pass keeps for the backward pass, beside what is given."""

    def __init__(self, given: list[Tensor]) -> None:
        self.seen = {tensor.untyped_storage().data_ptr() for tensor in given}
        self.kept: list[Tensor] = []  # alive, so that no address comes twice
        self.total = 0
        super().__init__(self.pack, lambda tensor: tensor)

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.seen:
            self.seen.add(storage.data_ptr())
            self.kept.append(tensor)
            self.total += storage.nbytes()
        return tensor


def gradients(network: SegVGGTNetwork, reading: Reading) -> tuple[dict[str, Tensor], int]:
    """Gradients of trunk and query branch in float64, and the bytes that the trunk's layers and the queries saved."""
    torch.manual_seed(3)
    images = torch.rand(1, 3, 3, 56, 42, dtype=torch.float64)
    parameters = {name: each for name, each in network.named_parameters() if each.requires_grad}
    tokens: list[Tensor] = []
    embedding = network.encoder.embed(images)
    saved = SavedBytes([embedding.tokens, *network.parameters()])
    with saved:
        network.encoder.run_layers(embedding, lambda _, x: tokens.append(x))
        found = network.branch.aggregator(tokens, lambda: tokens[-1][..., :8].flatten(1, 2), reading)
    total = found.projected.sin().sum() + tokens[-1].cos().sum()
    if found.frame_attention is not None:
        total = total + found.frame_attention.log().square().sum()
    given = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    return {name: grad for name, grad in zip(parameters, given, strict=True) if grad is not None}, saved.total


@pytest.mark.parametrize("attention", ["none", "products"])
@pytest.mark.parametrize("reading", [PLAIN, ASKED], ids=["plain", "statistics"])
@pytest.mark.parametrize("rank", [0, 3])
def test_gradients_are_those_of_kept_values(rank: int, reading: Reading, attention: str) -> None:
    queries = QueryConfig(number=130, mask_attention=attention)  # more than one block of queries
    network = small(replace(CONFIG, lora_rank=rank, queries=queries)).double()
    expected, before = gradients(network, reading)
    network.recompute_blocks()
    found, after = gradients(network, reading)
    assert found.keys() == expected.keys()
    parts = ("frame_blocks.4", "global_blocks.0", "instance_cross_blocks.4.attn.k_proj", "instance_query_self_attn.0")
    assert all(any(part in name for name in found) for part in parts)
    assert any(".lora." in name for name in found) == (rank > 0)
    for name, grad in found.items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-12, atol=1e-12 * float(expected[name].abs().max()))
    assert after < before / 5


def test_a_block_keeps_its_input_alone() -> None:
    """A layer more costs its two outputs, whatever its hidden width; without checkpointing it costs many times that."""

    def saved(depth: int, recompute: bool) -> int:
        sizes = replace(SIZES, depth=depth, dpt_layers=(0, 1, 2, 2))
        network = small(replace(CONFIG, lora_rank=0), sizes).double()
        if recompute:
            network.recompute_blocks()
        return gradients(network, PLAIN)[1]

    tokens = 3 * (5 + 4 * 3) * SIZES.embed_dim * 8
    queries = 3 * CONFIG.queries.number * SIZES.embed_dim * 8  # after both blocks, and for the projection
    assert saved(6, True) - saved(5, True) == 2 * tokens + queries
    assert saved(6, False) - saved(5, False) > 8 * (2 * tokens + queries)


def test_the_full_size_recipe_uses_it() -> None:
    assert read_experiment("configs/segvggt.yaml").config.checkpoint_blocks
    assert not read_experiment("configs/segvggt_tiny.yaml").config.checkpoint_blocks
