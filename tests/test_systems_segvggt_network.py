"""SegVGGT's network: official numbers and names, attention against loops in float64, options, bounded memory."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import golden
import pytest
import torch
from safetensors.torch import load_file, save_file
from segvggt_networks import CONFIG, SIZES, SKIPS, on_tiny, small
from tiny_encoder import TINY
from tolerances import tolerance
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from tokengroups.encoders.vggt import VGGT, VGGTConfig
from tokengroups.encoders.vggt_tiny import VGGTTiny
from tokengroups.systems.segvggt import query_blocks
from tokengroups.systems.segvggt.config import QueryConfig, SegVGGTConfig
from tokengroups.systems.segvggt.lora import LoRALinear, add_lora, merge_lora
from tokengroups.systems.segvggt.network import QueryBranch, SegVGGTNetwork
from tokengroups.systems.segvggt.queries import InstanceQueries, Reading
from tokengroups.systems.segvggt.query_blocks import Gaze, QueryCrossBlock

ASKED = Reading(states=True, frame_attention=True)


def keys(data_dir: Path, name: str) -> dict[str, str]:
    with gzip.open(data_dir / name, "rt") as file:
        return {key: shape for key, shape, _ in csv.reader(file, delimiter="\t")}


def full_size(config: SegVGGTConfig = SegVGGTConfig()) -> dict[str, Tensor]:  # noqa: B008 # frozen
    with torch.device("meta"):
        network = SegVGGTNetwork(VGGT(VGGTConfig()), config)
    return {**network.encoder.state_dict(), **network.branch.state_dict()}


# --- official numbers and names -------------------------------------------------------------------------------------


def test_official_numbers(data_dir: Path) -> None:
    rows = golden.compare("segvggt", data_dir / "segvggt_small.safetensors")
    names = {f"{kind}.{layer}" for kind in ("tokens", "queries_after_cross", "queries") for layer in range(4)}
    names |= {"attn_frame_mean", "instance_features", "query_embedding", "mask_logits", "class_logits"}
    assert {row.name for row in rows} == names
    assert all(row.error < 2e-6 and row.gate == 3e-6 for row in rows)


def test_golden_files_of_other_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every size comes from the file: two scenes, five layers, all weights stored."""
    sizes: dict[str, Any] = {
        "num_queries": 9, "num_instance_classes": 7, "query_cross_mlp_ratio": 4.0, "query_self_mlp_ratio": 1.0,
        "lora_rank": 3, "lora_alpha": 4.5, "class_hidden": 32, "dpt_features": 16, "mask_dim": 8,
        "feature_down_ratio": 2, "embed_dim": 32, "num_heads": 2, "dino_num_heads": 2, "depth": 5, "dino_depth": 1,
        "dpt_layers": [0, 1, 3, 4], "dpt_out_channels": [4, 8, 8, 8], "pos_embed_image_size": 56, "patch_size": 14,
    }  # fmt: skip
    network, images = small(), torch.rand(2, 2, 3, 42, 70)
    weights = {f"aggregator.{name}": tensor for name, tensor in network.encoder.aggregator.state_dict().items()}
    weights |= network.branch.state_dict()
    with torch.no_grad():
        output, layers = network.run_trunk(images)
        out = network(images, ASKED)[1]
    assert out.frame_attention is not None
    tensors = {f"weights.{name}": tensor for name, tensor in weights.items()} | {"images": images}
    tensors |= {f"outputs.tokens.{i}": output.tokens[at] for at, i in enumerate((0, 1, 3, 4))}
    tensors |= {"outputs.attn_frame_mean": out.frame_attention, "outputs.instance_features": out.features.contiguous()}
    tensors |= {"outputs.class_logits": out.class_logits, "outputs.mask_logits": out.mask_logits()}
    file = tmp_path / "hidden.safetensors"
    save_file(tensors, file, {name: json.dumps(value) for name, value in sizes.items()})
    rows = golden.compare("segvggt", file)
    assert len(rows) == 8 and all(row.error < 1e-6 for row in rows)
    del tensors["outputs.mask_logits"]
    tensors["weights.aggregator.global_blocks.2.attn.qkv.lora.lora_B.weight"] *= 1.1
    save_file(tensors, file, {name: json.dumps(value) for name, value in sizes.items()})
    assert golden.main(["segvggt", str(file)]) == 1
    save_file({**tensors, "weights.x": torch.ones(1)}, file, {name: json.dumps(value) for name, value in sizes.items()})
    assert golden.main(["segvggt", str(file)]) == 2 and "does not have: x" in capsys.readouterr().err
    save_file(tensors, file, {name: json.dumps(sizes[name]) for name in sizes if name != "depth"})
    assert golden.main(["segvggt", str(file)]) == 2 and "metadata lack depth" in capsys.readouterr().err


def test_names_and_shapes_are_official(data_dir: Path) -> None:
    ours = full_size()
    official = keys(data_dir, "segvggt_keys.tsv.gz")
    assert {name: str(tuple(tensor.shape)) for name, tensor in ours.items()} == official
    assert len(ours) == 2606 and sum(tensor.numel() for tensor in ours.values()) == 1_654_251_655
    more = full_size(SegVGGTConfig(num_classes=198))
    other = {name for name, tensor in more.items() if tensor.shape != ours[name].shape}
    assert other == {f"semantic_head.scratch.output_instance.2.{part}" for part in ("weight", "bias")}
    assert sum(tensor.numel() for tensor in more.values()) == 1_654_257_595


def test_a_vggt_is_a_start_by_the_renaming_table(data_dir: Path) -> None:
    """All but point and track heads of VGGT-1B, qkv and proj of the trunk under LoRA's names."""
    renamed = {
        re.sub(r"(_blocks\.\d+\.attn\.(qkv|proj))\.", r"\1.linear.", name): shape
        for name, shape in keys(data_dir, "vggt_1b_keys.tsv.gz").items()
        if not name.startswith(("point_head.", "track_head."))
    }
    official = keys(data_dir, "segvggt_keys.tsv.gz")
    assert len(renamed) == 1341 and all(official[name] == shape for name, shape in renamed.items())
    new = set(official) - set(renamed)
    assert len(new) == 1265 and all("lora_" in n or "instance_" in n or n.startswith("semantic_head") for n in new)


@torch.no_grad()
def test_a_new_network_leaves_the_geometry_of_its_vggt() -> None:
    torch.manual_seed(1)
    encoder, images = VGGT(SIZES).eval(), torch.rand(1, 2, 3, 28, 42)
    before = encoder(images)
    network = SegVGGTNetwork(encoder, CONFIG).eval()
    output, _ = network(images)
    assert output.points is None and torch.equal(output.depth, before.depth)
    assert all(torch.equal(x, y) for x, y in zip(output.tokens, before.tokens, strict=True))
    assert encoder.config == replace(SIZES, enable_point=False)
    names = {name for name, parameter in network.encoder.named_parameters() if not parameter.requires_grad}
    assert {name.rpartition(".")[0] for name in names if "_blocks." in name} == {
        f"aggregator.{kind}_blocks.{i}.attn.{layer}.linear"
        for kind in ("frame", "global") for i in range(5) for layer in ("qkv", "proj")
    }  # fmt: skip


def test_initial_values() -> None:
    """Section 6.3: queries of 1e-6, LayerScale 0.01, B of zero, A as any linear layer."""
    torch.manual_seed(0)
    network = SegVGGTNetwork(VGGT(SIZES), replace(CONFIG, queries=QueryConfig(number=400), lora_rank=32))
    queries = network.branch.aggregator
    assert float(queries.instance_query_token.detach().std()) == pytest.approx(1e-6, rel=0.02)
    for block in (*queries.instance_cross_blocks, *queries.instance_query_self_attn):
        assert torch.equal(block.ls1.gamma, torch.full((32,), 0.01)) and torch.equal(block.ls2.gamma, block.ls1.gamma)
    layer = network.encoder.aggregator.frame_blocks[0].attn.qkv
    assert isinstance(layer, LoRALinear) and not layer.lora.lora_B.weight.any()
    bound = 32**-0.5  # Kaiming, uniform, a = sqrt(5): 1 / sqrt(inputs)
    assert 0.95 * bound < float(layer.lora.lora_A.weight.detach().abs().max()) <= bound
    assert float(queries.instance_queries_proj.bias.detach().abs().max()) > 0
    norms = [module for module in network.branch.modules() if isinstance(module, nn.LayerNorm)]
    assert len(norms) == 5 * (5 + 4) + 1 and all(norm.eps == 1e-5 for norm in norms)


# --- attention ------------------------------------------------------------------------------------------------------


def cross_block() -> tuple[QueryCrossBlock, Tensor, Tensor]:
    """A block of two heads in float64, five queries, three frames of seven tokens."""
    block = QueryCrossBlock(8, 2, 4.0, 0.3).double()
    for parameter in block.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return block, torch.randn(1, 5, 8, dtype=torch.float64), torch.randn(1, 21, 8, dtype=torch.float64)


def normed(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    centred = x - x.mean()
    return centred / (centred.square().mean() + 1e-5).sqrt() * norm.weight + norm.bias


def explicit(
    block: QueryCrossBlock, queries: Tensor, tokens: Tensor, allowed: Callable[[int, int], bool] = lambda _q, _t: True
) -> tuple[Tensor, Tensor]:
    """The block query by query and head by head: its answer and its attention [h Q N]."""
    attn, out, maps = block.attn, [], torch.zeros(2, 5, 21, dtype=torch.float64)
    keys = [normed(token, block.norm_kv) for token in tokens[0]]
    for i, query in enumerate(queries[0]):
        seen = attn.q_proj(normed(query, block.norm_q))
        mixed = []
        for head in range(2):
            part = slice(4 * head, 4 * head + 4)
            q = normed(seen[part], attn.q_norm)
            logits = [normed(attn.k_proj(key)[part], attn.k_norm) @ q / 2 for key in keys]
            weights = [float(logit.exp()) * allowed(i, t) for t, logit in enumerate(logits)]
            maps[head, i] = torch.tensor(weights, dtype=torch.float64) / sum(weights)
            mixed.append(sum(w * attn.v_proj(key)[part] for w, key in zip(maps[head, i], keys, strict=True)))
        state = query + block.ls1.gamma * attn.proj(torch.cat(mixed))
        inner = block.mlp.fc1(normed(state, block.norm2))
        gelu = inner * (1 + torch.erf(inner / 2**0.5)) / 2
        out.append(state + block.ls2.gamma * block.mlp.fc2(gelu))
    return torch.stack(out)[None], maps


@torch.no_grad()
def test_cross_block_against_a_loop() -> None:
    block, queries, tokens = cross_block()
    regions = torch.rand(1, 21, 6, dtype=torch.float64)  # more than the channels of a head
    out, means = block(queries, tokens, Gaze(regions=regions))
    expected, maps = explicit(block, queries, tokens)
    torch.testing.assert_close(out, expected, **tolerance("float64"))
    assert means is not None
    torch.testing.assert_close(means[0], maps.mean(dim=0) @ regions[0], **tolerance("float64"))


@torch.no_grad()
def test_mask_attention_against_a_loop() -> None:
    """Given masks, and masks of the attention's own products, which special tokens escape."""
    block, queries, tokens = cross_block()
    mask = torch.rand(1, 5, 21) > 0.5
    mask[..., 0] = True
    expected, _ = explicit(block, queries, tokens, lambda q, t: bool(mask[0, q, t]))
    torch.testing.assert_close(block(queries, tokens, Gaze(allowed=mask))[0], expected, **tolerance("float64"))
    special = torch.arange(21) % 7 < 2
    _, maps = explicit(block, queries, tokens)
    logits = maps.log() - maps.log().mean(-1, keepdim=True)  # up to a constant a row
    attn, seen = block.attn, block.norm_kv(tokens)[0]
    q = attn.q_norm(attn.q_proj(block.norm_q(queries))[0].unflatten(-1, (2, 4)))
    k = attn.k_norm(attn.k_proj(seen).unflatten(-1, (2, 4)))
    products = torch.stack([torch.stack([(q[i] * k[t]).sum() / 4 for t in range(21)]) for i in range(5)])
    spread = products - products.mean(-1, keepdim=True)
    torch.testing.assert_close(spread, logits.mean(dim=0), **tolerance("float64"))
    read = (products.sigmoid() > 0.4) | special
    assert 0 < int((~read).sum()) < 5 * 15
    expected, _ = explicit(block, queries, tokens, lambda q, t: bool(read[q, t]))
    torch.testing.assert_close(block(queries, tokens, Gaze(always=special))[0], expected, **tolerance("float64"))


@torch.no_grad()
def test_uniform_attention_is_the_mean_of_the_values() -> None:
    block, queries, tokens = cross_block()
    out, _ = block.attn(queries, tokens, Gaze(uniform=True))
    mean = block.attn.proj(block.attn.v_proj(tokens).mean(dim=1))
    torch.testing.assert_close(out, mean[:, None].expand(-1, 5, -1), **tolerance("float64"))


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


def test_gradients_of_frame_attention_reach_queries_and_keys() -> None:
    """Equal to those of an explicit softmax."""
    block, queries, tokens = cross_block()
    frames = torch.eye(3, dtype=torch.float64).repeat_interleave(7, dim=0)[None]
    weights = torch.rand(1, 5, 3, dtype=torch.float64)
    parameters = [block.attn.q_proj.weight, block.attn.k_proj.weight, block.attn.q_norm.weight, block.norm_kv.bias]
    means = block(queries, tokens, Gaze(regions=frames))[1]
    found = torch.autograd.grad((weights * means).sum(), parameters)
    attn = block.attn
    q = attn.q_norm(attn.q_proj(block.norm_q(queries)).unflatten(-1, (2, 4))).transpose(1, 2)
    k = attn.k_norm(attn.k_proj(block.norm_kv(tokens)).unflatten(-1, (2, 4))).transpose(1, 2)
    maps = (q @ k.mT / 2).softmax(-1).mean(dim=1)
    expected = torch.autograd.grad((weights * (maps @ frames)).sum(), parameters)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **tolerance("float64"))


# --- the branch -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_what_is_asked_for_is_returned() -> None:
    network, images = small(), torch.rand(1, 2, 3, 28, 42)
    _, plain = network(images)
    regions = torch.rand(1, 2, 11, 4)
    _, full = network(images, replace(ASKED, regions=regions))
    assert plain.layer_queries is plain.layer_class_logits is plain.frame_attention is plain.region_attention is None
    assert plain.queries.shape == (1, 9, 8) and plain.features.shape == (1, 2, 14, 21, 8)
    assert plain.class_logits.shape == (1, 9, 8) and plain.mask_logits().shape == (1, 9, 2, 14, 21)
    assert full.layer_queries.shape == (5, 1, 9, 8) and full.layer_class_logits.shape == (5, 1, 9, 8)
    assert torch.equal(full.layer_queries[-1], plain.queries) and torch.equal(full.features, plain.features)
    assert torch.equal(full.layer_class_logits[-1], plain.class_logits) and full.frame_attention is not None
    assert full.region_attention.shape == (5, 1, 9, 4)
    some = plain.mask_logits(plain.queries[:, 3:5])
    product = functional.linear(plain.features, plain.queries[0, 3:5])
    torch.testing.assert_close(some[0].permute(1, 2, 3, 0), product[0], **tolerance("float32"))


@torch.no_grad()
def test_regions_of_special_tokens_and_patches_add_up() -> None:
    network, images = small(), torch.rand(1, 2, 3, 28, 42)
    special = (torch.arange(11) < 5).float().expand(1, 2, 11)
    found = network(images, Reading(regions=torch.stack([special, 1 - special], dim=-1)))[1].region_attention
    assert found is not None and bool((found > 0.05).all())
    torch.testing.assert_close(found.sum(-1), torch.ones(5, 1, 9), **tolerance("float32"))


@torch.no_grad()
def test_queries_read_other_tokens_than_the_features_come_from() -> None:
    network, mine, theirs = small(), torch.rand(1, 2, 3, 28, 42), torch.rand(1, 2, 3, 28, 42)
    own, other = network(mine)[1], network(theirs)[1]
    swapped = network(mine, Reading(tokens=network.run_trunk(theirs)[1]))[1]
    assert torch.equal(swapped.features, own.features) and torch.equal(swapped.queries, other.queries)
    assert not torch.allclose(swapped.queries, own.queries)


@torch.no_grad()
def test_layers_can_be_chosen() -> None:
    """Blocks that read layers 1 and 3 are those of a plain loop over them."""
    network = small(replace(CONFIG, queries=QueryConfig(number=9, layers=(1, 3))))
    images, queries = torch.rand(1, 2, 3, 28, 42), network.branch.aggregator
    assert len(queries.instance_cross_blocks) == len(queries.instance_query_self_attn) == 2
    tokens: dict[int, Tensor] = {}
    network.encoder(images, tokens.__setitem__)
    state = queries.instance_query_token
    for index, layer in enumerate((1, 3)):
        state = queries.instance_cross_blocks[index](state, tokens[layer].flatten(1, 2))[0]
        state = queries.instance_query_self_attn[index](state)
    assert torch.equal(network(images)[1].queries, queries.instance_queries_proj(state))
    assert sorted(tokens) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("layers", [(5,), (-1, 2), (3, 1), (2, 2)])
def test_impossible_layers_are_refused(layers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must ascend in \[0, 5\)"):
        InstanceQueries(SIZES, QueryConfig(layers=layers), 8)


@pytest.mark.parametrize(
    "wrong", [{"std": float("nan")}, {"number": 0}, {"cross_mlp_ratio": 0.0}, {"layer_scale": -1.0}]
)
def test_impossible_sizes_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be a"):
        QueryConfig(**wrong)


@torch.no_grad()
def test_inference_gives_geometry_too() -> None:
    """One pass; on the tiny encoder the single-view maps come from it."""
    network, images = on_tiny(), torch.rand(1, 2, 3, 32, 48)
    geometry, out = network.encode(images)
    direct = network.encoder.encode(images)
    assert torch.equal(geometry.depth, direct.depth) and torch.equal(geometry.points, direct.points)
    assert torch.equal(out.queries, network(images)[1].queries)
    assert torch.equal(out.features, network(images)[1].features)


@torch.no_grad()
def test_skips_add_what_they_say() -> None:
    """Both stem maps and the single-view maps reach the features; without them nothing of the photo does."""
    network, images = on_tiny(), torch.rand(1, 2, 3, 32, 48)
    head, before = network.branch.semantic_head, network(images)[1].features
    for part in (head.fine_skip, head.coarse_skip, *head.single_view.linears):
        kept = {name: tensor.clone() for name, tensor in part.state_dict().items()}
        for parameter in part.parameters():
            parameter.zero_()
        assert not torch.allclose(network(images)[1].features, before, rtol=1e-3), part
        part.load_state_dict(kept)
    torch.testing.assert_close(network(images)[1].features, before)
    with pytest.raises(ValueError, match="needs an encoder with a single-view network"):
        SegVGGTNetwork(VGGTTiny(TINY), replace(CONFIG, head=SKIPS))


@torch.no_grad()
def test_sampled_queries_start_from_distinct_tokens() -> None:
    network = on_tiny(start="sampled")
    queries, tokens = network.branch.aggregator, torch.randn(1, 2, 2 + 6, 32)
    start = queries.start(tokens) - queries.instance_query_token
    patches = functional.layer_norm(tokens[:, :, 2:].flatten(1, 2), (32,))
    expected = queries.instance_query_start(patches)[0]
    found = torch.cdist(start[0], expected).argmin(dim=1)
    assert len(set(found.tolist())) == 9
    torch.testing.assert_close(start[0], expected[found], **tolerance("float32_chain"))
    few = queries.start(tokens[:, :1]) - queries.instance_query_token  # six patches for nine queries
    torch.testing.assert_close(few[0, :3], few[0, 6:], **tolerance("float32_chain"))
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


@torch.no_grad()
def test_bfloat16_reaches_trunk_and_queries_alone() -> None:
    network, images = small(), torch.rand(1, 2, 3, 28, 42)
    exact = network(images, ASKED)[1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = network(images, ASKED)[1]
    assert all(t is None or t.dtype == torch.float32 for t in vars(out).values())
    for name in ("features", "queries", "class_logits", "frame_attention"):
        mine, theirs = getattr(out, name), getattr(exact, name)
        error = float((mine - theirs).norm() / theirs.norm())
        assert 1e-6 < error < 0.1, name


def test_every_parameter_is_trained() -> None:
    """Processes would wait for the gradients of what no loss depends on."""
    network = on_tiny(start="sampled")
    network.train()
    _, out = network(torch.rand(1, 2, 3, 32, 48), ASKED)
    (
        out.mask_logits().square().mean() + out.class_logits.square().mean() + out.layer_queries.square().mean()
    ).backward()
    assert not [name for name, parameter in network.branch.named_parameters() if parameter.grad is None]
    lora = [p for name, p in network.encoder.named_parameters() if "lora_" in name]
    assert len(lora) == 32 and all(parameter.grad is not None for parameter in lora)


# --- LoRA -----------------------------------------------------------------------------------------------------------


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


def test_the_shipped_golden_file_is_small(data_dir: Path) -> None:
    """Weights that follow from their names are left out, reference numbers of the objective are kept."""
    tensors = load_file(data_dir / "segvggt_small.safetensors")
    assert len([name for name in tensors if name.startswith("weights.")]) == 7
    assert {name.rpartition(".")[2] for name in tensors if name.startswith("reference.0")} >= {"cost_total", "loss_js"}
