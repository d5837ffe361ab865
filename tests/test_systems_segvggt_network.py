"""SegVGGT's network: official numbers and names, initial values, what is returned, skips, precision."""

from __future__ import annotations

import csv
import gzip
import json
import re
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

from tokengroups.encoders.vggt import VGGT, VGGTConfig
from tokengroups.encoders.vggt_tiny import VGGTTiny
from tokengroups.systems.segvggt.config import QueryConfig, SegVGGTConfig
from tokengroups.systems.segvggt.lora import LoRALinear
from tokengroups.systems.segvggt.network import SegVGGTNetwork
from tokengroups.systems.segvggt.queries import Reading

ASKED = Reading(states=True, frame_attention=True)


def keys(data_dir: Path, name: str) -> dict[str, str]:
    with gzip.open(data_dir / name, "rt") as file:
        return {key: shape for key, shape, _ in csv.reader(file, delimiter="\t")}


def full_size(config: SegVGGTConfig = SegVGGTConfig()) -> dict[str, Tensor]:  # noqa: B008 # frozen
    with torch.device("meta"):
        network = SegVGGTNetwork(VGGT(VGGTConfig()), config)
    return {**network.encoder.state_dict(), **network.branch.state_dict()}


def test_official_numbers(data_dir: Path) -> None:
    rows = golden.compare("segvggt", data_dir / "segvggt_small.safetensors")
    names = {f"{kind}.{layer}" for kind in ("tokens", "queries_after_cross", "queries") for layer in range(4)}
    names |= {"attn_frame_mean", "instance_features", "query_embedding", "mask_logits", "class_logits"}
    outputs = [row for row in rows if not row.name.startswith(("post.", "reference."))]
    assert {row.name for row in outputs} == names
    assert all(row.error < 2e-6 and row.gate == 3e-6 for row in outputs)


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
    tensors |= {f"outputs.tokens.{i}": output.tokens[at].contiguous() for at, i in enumerate((0, 1, 3, 4))}
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
    torch.testing.assert_close(full.layer_class_logits[-1], plain.class_logits, **tolerance("float32"))
    assert full.frame_attention is not None
    assert full.region_attention.shape == (5, 1, 9, 4)
    some = plain.mask_logits(plain.queries[:, 3:5])
    product = functional.linear(plain.features, plain.queries[0, 3:5])
    torch.testing.assert_close(some[0].permute(1, 2, 3, 0), product[0], **tolerance("float32"))


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


def test_the_shipped_golden_file_is_small(data_dir: Path) -> None:
    """Weights that follow from their names are left out, reference numbers of the objective are kept."""
    tensors = load_file(data_dir / "segvggt_small.safetensors")
    assert len([name for name in tensors if name.startswith("weights.")]) == 7
    assert {name.rpartition(".")[2] for name in tensors if name.startswith("reference.0")} >= {"cost_total", "loss_js"}
