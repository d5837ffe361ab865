"""How instance queries read: layers, blocks, frames, other tokens, masks, sampled starts, bounded memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from einops import rearrange
from segvggt_networks import CONFIG, SIZES, on_tiny, small
from tolerances import tolerance
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tokengroups.systems.segvggt import query_blocks
from tokengroups.systems.segvggt.config import QueryConfig, SegVGGTConfig
from tokengroups.systems.segvggt.network import QueryBranch
from tokengroups.systems.segvggt.queries import InstanceQueries, Reading
from tokengroups.systems.segvggt.query_blocks import Gaze

ASKED = Reading(states=True, frame_attention=True)


@pytest.mark.parametrize("mask_attention", ["none", "products", "masks"])
@pytest.mark.parametrize("size", [1, 4])
@torch.no_grad()
def test_blocks_of_queries_and_of_frames_change_nothing(
    mask_attention: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, images = on_tiny(mask_attention=mask_attention), torch.rand(2, 3, 3, 32, 48)
    whole = network(images, ASKED)[1]
    monkeypatch.setattr(query_blocks, "QUERY_BLOCK", size)
    network.branch.chunk = size
    parts = network(images, ASKED)[1]
    for name, tensor in vars(whole).items():
        if tensor is not None:
            torch.testing.assert_close(getattr(parts, name), tensor, **tolerance("float32_chain"), msg=name)


@torch.no_grad()
def test_frame_attention_is_the_mean_over_heads_and_tokens() -> None:
    """Of every layer, against a softmax in float64 on the recorded queries and keys; P times it sums to 1."""
    network, images = small(), torch.rand(2, 3, 3, 28, 42)
    recorded: list[Tensor] = []
    for block in network.branch.aggregator.instance_cross_blocks:
        for norm in (block.attn.q_norm, block.attn.k_norm):
            norm.register_forward_hook(lambda *call: recorded.append(call[-1]))
    found = network(images, ASKED)[1].frame_attention
    tokens = 5 + 2 * 3
    assert found is not None and found.shape == (5, 2, 9, 3)
    for layer in range(5):
        q, k = (x.double() for x in recorded[2 * layer : 2 * layer + 2])
        maps = (q @ k.mT / 4).softmax(dim=-1)
        expected = maps.unflatten(-1, (3, tokens)).mean(dim=(1, 4))
        torch.testing.assert_close(found[layer].double(), expected, **tolerance("float32"))
    torch.testing.assert_close(tokens * found.sum(-1), torch.ones(5, 2, 9), **tolerance("float32"))


@torch.no_grad()
def test_regions_of_special_tokens_and_patches_add_up() -> None:
    network, images = small(), torch.rand(1, 2, 3, 28, 42)
    special = (torch.arange(11) < 5).float().expand(1, 2, 11)
    found = network(images, Reading(regions=torch.stack([special, 1 - special], dim=-1)))[1].region_attention
    assert found is not None and bool((found > 0.05).all())
    torch.testing.assert_close(found.sum(-1), torch.ones(5, 1, 9), **tolerance("float32"))


@torch.no_grad()
@pytest.mark.parametrize("layers", [(1, 3), (4, 4)])
def test_layers_can_be_chosen(layers: tuple[int, ...]) -> None:
    """Blocks that read these layers, the same one again, too, are those of a plain loop over them."""
    network = small(replace(CONFIG, queries=QueryConfig(number=9, layers=layers)))
    images, queries = torch.rand(1, 2, 3, 28, 42), network.branch.aggregator
    assert len(queries.instance_cross_blocks) == len(queries.instance_query_self_attn) == 2
    tokens: dict[int, Tensor] = {}
    network.encoder(images, tokens.__setitem__)
    state = queries.instance_query_token
    for index, layer in enumerate(layers):
        state = queries.instance_cross_blocks[index](state, tokens[layer].flatten(1, 2))[0]
        state = queries.instance_query_self_attn[index](state)
    torch.testing.assert_close(network(images)[1].queries, queries.instance_queries_proj(state), **tolerance("float32"))
    assert sorted(tokens) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("layers", [(5,), (-1, 2), (3, 1)])
def test_impossible_layers_are_refused(layers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must not descend in \[0, 5\)|whole number from 0"):
        InstanceQueries(SIZES, QueryConfig(layers=layers), 8)


@pytest.mark.parametrize(
    "wrong", [{"std": float("nan")}, {"number": 0}, {"cross_mlp_ratio": 0.0}, {"layer_scale": -1.0}]
)
def test_impossible_sizes_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be a"):
        QueryConfig(**wrong)


@torch.no_grad()
def test_sampled_queries_start_from_features_of_distinct_patches() -> None:
    """Their masks start as the cells that are similar to the patch; few patches are used again."""
    network = on_tiny(start="sampled")
    queries = network.branch.aggregator
    maps = queries.features(torch.randn(1, 2, queries.instance_queries_proj.out_features, 2, 3))
    torch.testing.assert_close(maps[:, :, :-1].norm(dim=2), torch.ones(1, 2, 2, 3))
    assert bool((maps[:, :, -1] == 1).all())
    features = rearrange(maps, "b s e h w -> b (s h w) e")
    start, samples = queries.start(1, features)
    assert samples is not None
    found = torch.cdist(samples[0], features[0]).argmin(dim=1)
    assert len(set(found.tolist())) == 9 and torch.equal(samples[0], features[0, found])
    expected = queries.instance_query_token + queries.instance_query_start(samples)
    torch.testing.assert_close(start, expected, **tolerance("float32_chain"))
    torch.nn.init.constant_(queries.instance_queries_proj.weight, 0)
    torch.nn.init.constant_(queries.instance_queries_proj.bias, 0)
    fresh = InstanceQueries(SIZES, QueryConfig(start="sampled"), samples.shape[-1])
    queries.instance_query_gains.copy_(fresh.instance_query_gains)
    logits = queries.project(start, samples)[0] @ features[0].T
    cosines = samples[0, :, :-1] @ features[0, :, :-1].T
    torch.testing.assert_close(logits, 10 * (cosines - 0.5), **tolerance("float32_chain"))
    few = queries.start(1, features[:, :6])[1]  # six patches for nine queries
    assert few is not None and torch.equal(few[0, :3], few[0, 6:])
    first = network(torch.rand(1, 2, 3, 32, 48))[1].queries
    assert not torch.allclose(first, network(torch.rand(1, 2, 3, 32, 48))[1].queries, rtol=1e-3)


@torch.no_grad()
def test_masks_say_what_queries_read() -> None:
    """Patches where the query's present mask, averaged over the patch, exceeds 0.4, and all special tokens."""
    network, images = on_tiny(mask_attention="masks"), torch.rand(1, 2, 3, 32, 48)
    gazes: list[Gaze] = []
    for block in network.branch.aggregator.instance_cross_blocks:
        block.register_forward_pre_hook(lambda _block, inputs: gazes.append(inputs[2]))
    out = network(images, ASKED)[1]
    for layer in range(1, 4):
        logits = out.mask_logits(out.layer_queries[layer - 1])  # [1 Q S 16 24], four cells a patch and side
        pooled = logits.unflatten(-1, (6, 4)).unflatten(-3, (4, 4)).mean(dim=(-1, -3))
        allowed = gazes[layer].allowed.unflatten(-1, (2, 2 + 24))
        assert bool(allowed[..., :2].all())
        assert torch.equal(allowed[..., 2:], (pooled.sigmoid() > 0.4).flatten(-2))


class LargestTensor(TorchDispatchMode):
    """Records how many numbers the largest new tensor holds."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, Tensor):
                self.numbers = max(self.numbers, tensor.untyped_storage().nbytes() // tensor.element_size())
        return result


@torch.no_grad()
@pytest.mark.parametrize("mask_attention", ["none", "products"])
def test_memory_is_bounded_by_tokens_not_by_attention(mask_attention: str) -> None:
    """Twenty photos of 518x392 and 400 queries: nothing is as large as one head's attention map."""
    encoder = replace(SIZES, depth=1, dpt_layers=(0, 0, 0, 0))
    branch = QueryBranch(encoder, SegVGGTConfig(queries=QueryConfig(mask_attention=mask_attention))).eval()
    tokens = torch.randn(1, 20, 5 + 28 * 37, 32)
    with LargestTensor() as seen:
        branch.aggregator([tokens], lambda: tokens, ASKED)
    assert 20 * 1041 * 32 <= seen.numbers < 0.4 * 400 * 20 * 1041
