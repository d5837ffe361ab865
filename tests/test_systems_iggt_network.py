"""IGGT's heads: official numbers and names, any patch grid, any number of photos, both layouts."""

from __future__ import annotations

import csv
import gzip
from dataclasses import replace
from pathlib import Path
from typing import Literal

import golden
import pytest
import torch
from torch.nn import functional

from tokengroups.encoders.vggt import VGGTConfig
from tokengroups.systems.iggt.config import InstanceHeadConfig
from tokengroups.systems.iggt.network import InstanceBranch, patch_layers
from tokengroups.systems.iggt.window_attention import WindowCrossAttention, cut, joined, pad_to_windows, relative_index

SMALL = VGGTConfig(
    patch_size=14, image_size=56, embed_dim=16, num_heads=2, dino_depth=1, depth=4, camera_depth=1, camera_heads=2,
    dpt_layers=(0, 1, 2, 3), dpt_channels=(4, 4, 4, 4), dpt_features=16, dpt_hidden=4, dpt_chunk=2,
)  # fmt: skip


def branch(config: InstanceHeadConfig | None = None) -> InstanceBranch:
    torch.manual_seed(3)
    network = InstanceBranch(SMALL, config or InstanceHeadConfig())
    for parameter in network.parameters():  # a new one has zero biases and unit norms, which would hide mistakes
        parameter.data += 0.1 * torch.randn_like(parameter)
    return network.eval()


def layers(frames: int, rows: int, columns: int) -> list[torch.Tensor]:
    return list(torch.randn(4, frames, rows * columns, 2 * SMALL.embed_dim))


def test_official_numbers(data_dir: Path) -> None:
    rows = golden.compare("iggt_heads", data_dir / "iggt_heads_s2_112x168.safetensors")
    assert [row.name for row in rows if row.name.startswith("part")] == ["part_features"]
    assert len(rows) == 10 and all(row.error < 4e-6 for row in rows)


def test_names_and_shapes_are_official(data_dir: Path) -> None:
    with gzip.open(data_dir / "iggt_keys.tsv.gz", "rt") as file:
        official = {name: shape for name, shape, _ in csv.reader(file, delimiter="\t")}
    with torch.device("meta"):
        network = InstanceBranch(VGGTConfig(), InstanceHeadConfig())
    ours = {name: str(tuple(tensor.shape)) for name, tensor in network.state_dict().items()}
    assert {name: shape for name, shape in ours.items() if not name.startswith("point_head.")} == official


@pytest.mark.parametrize("grid", [(2, 2), (3, 5), (1, 1), (4, 7)])
@pytest.mark.parametrize("layout", ["released", "paper"])
@torch.no_grad()
def test_any_patch_grid(grid: tuple[int, int], layout: str) -> None:
    size_hw = (14 * grid[0], 14 * grid[1])
    out = branch(InstanceHeadConfig(layout=layout))(layers(2, *grid), size_hw)
    assert out.field.shape == (2, 8, *size_hw) and bool(out.field.isfinite().all())


def test_padding_changes_nothing_where_windows_fit() -> None:
    x = torch.randn(2, 3, 16, 24)
    assert pad_to_windows(x, 8) is x
    assert torch.equal(pad_to_windows(x[:, :, :12, :20], 8), functional.pad(x[:, :, :12, :20], (0, 4, 0, 4), "reflect"))


@torch.no_grad()
def test_photos_do_not_depend_on_each_other_nor_on_chunks() -> None:
    network, tokens = branch().double(), [layer.double() for layer in layers(5, 3, 4)]
    whole = network(tokens, (42, 56)).field
    alone = torch.cat([network([layer[i : i + 1] for layer in tokens], (42, 56)).field for i in range(5)])
    torch.testing.assert_close(whole, alone, rtol=1e-9, atol=1e-9)
    network.chunk = 100
    torch.testing.assert_close(network(tokens, (42, 56)).field, whole, rtol=1e-9, atol=1e-9)


def test_dead_parts_change_nothing_and_the_others_do() -> None:
    network = branch()
    network(layers(2, 2, 4), (28, 56)).field.square().sum().backward()
    silent = {name for name, parameter in network.part_head.named_parameters() if parameter.grad is None}
    assert {name.partition(".")[0] for name in silent} == {"norm", "projects", "resize_layers", "cross_attention_1"}
    assert all(p.grad is not None for p in network.part_adaptor.parameters())
    reached = {name for name, p in network.point_head.named_parameters() if p.grad is not None}
    assert "scratch.refinenet2.out_conv.weight" in reached  # the field's loss reaches the point head


def test_batch_norms_keep_their_statistics_in_training() -> None:
    network = branch().train()
    before = {name: tensor.clone() for name, tensor in network.named_buffers()}
    network(layers(2, 2, 2), (28, 28))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.named_buffers())


def test_index_of_the_bias_table() -> None:
    """Each entry by its own formula; the released table of wide windows has negative numbers."""
    wide, equal = relative_index(8, 12), relative_index(8, 8)
    for query, key in [(0, 0), (9, 5), (63, 143), (20, 77)]:
        (row, column), (key_row, key_column) = divmod(query, 8), divmod(key, 12)
        assert wide[query, key] == (key_row - row - 3) * 19 + (key_column - column - 3)
    assert (int(wide.min()), int(wide.max())) == (-200, 160)
    assert equal[0, 0] == 7 * 15 + 7 and equal[0, 63] == 0 and equal[63, 0] == 224


def test_windows_are_cut_and_joined() -> None:
    x = torch.arange(2 * 16 * 24 * 3.0).reshape(2, 16, 24, 3)
    windows = cut(x, 8)
    assert windows.shape == (12, 64, 3) and torch.equal(windows[4, 9], x[0, 9, 9])
    assert torch.equal(joined(windows, (16, 24), 8), x)


@torch.no_grad()
def test_window_attention_against_a_loop() -> None:
    """Clean layout, one head: each query attends to the 12 x 12 cells around its window; outside are zero keys."""
    torch.manual_seed(0)
    block = WindowCrossAttention(8, 1, 4, 6, legacy_layout=False).double()
    x, other = torch.randn(2, 1, 8, 8, 12, dtype=torch.float64)
    inner = block.atten_block
    mine, theirs = block.tokens(x)[0], block.tokens(other)[0]
    q, keys = inner.q(inner.norm1(mine)), inner.norm1(theirs)
    k, v = inner.k(keys), inner.v(keys)
    mixed = torch.zeros_like(q)
    for row in range(8):
        for column in range(12):
            top, left = row // 4 * 4 - 1, column // 4 * 4 - 1
            logits, values = [], []
            for i in range(6):
                for j in range(6):
                    inside = 0 <= top + i < 8 and 0 <= left + j < 12
                    key = k[top + i, left + j] if inside else torch.zeros(8, dtype=torch.float64)
                    index = (i - row % 4 - 1) * 9 + (j - column % 4 - 1)
                    logits.append(q[row, column] @ key * 8**-0.5 + inner.relative_position_bias_table[index, 0])
                    values.append(v[top + i, left + j] if inside else torch.zeros(8, dtype=torch.float64))
            mixed[row, column] = torch.stack(logits).softmax(0) @ torch.stack(values)
    tokens = mine + inner.proj(mixed)
    tokens = tokens + inner.mlp(inner.norm2(tokens))
    torch.testing.assert_close(block(x, other), block.finish(tokens[None], x), rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_layout_switches_change_the_result() -> None:
    tokens = layers(1, 4, 6)
    released = branch()(tokens, (56, 84)).field
    clean = branch(InstanceHeadConfig(legacy_query_layout=False))(tokens, (56, 84)).field
    assert float((released - clean).norm() / released.norm()) > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("layout", ["released", "paper"])
def test_without_fusion_the_field_does_not_read_the_point_head(layout: Literal["released", "paper"]) -> None:
    tokens = layers(1, 4, 6)
    for fusion in (True, False):
        network = branch(InstanceHeadConfig(layout=layout, fusion=fusion))
        before = network(tokens, (56, 84)).field
        for parameter in network.point_head.parameters():
            parameter.mul_(1.5)
        assert torch.equal(network(tokens, (56, 84)).field, before) == (not fusion)


def test_layers_of_patch_features() -> None:
    features = torch.randn(2, 12, 3, 5)
    first, *_, last = patch_layers(features, 4)
    assert first.shape == (2, 15, 3)
    assert torch.equal(first[1, 7], features[1, :3, 1, 2]) and torch.equal(last[0, 4], features[0, 9:, 0, 4])


@pytest.mark.parametrize(
    "wrong", [{"feature_dim": 0}, {"window": -8}, {"overlap": 0.4}, {"overlap": float("nan")}, {"heads": 10**9}]
)
def test_impossible_sizes_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be|NaN"):
        replace(InstanceHeadConfig(), **wrong)
