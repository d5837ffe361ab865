"""Transformer blocks and rotary embedding against loops in float64."""

from __future__ import annotations

import math

import pytest
import torch
from tolerances import tolerance
from torch import nn

from tokengroups.nn.blocks import (
    Attention,
    LayerScale,
    Mlp,
    TransformerBlock,
    attend,
    init_transformer_weights,
    run_block,
)
from tokengroups.nn.rope import apply_rope, rope_tables


def by_hand_norm(x, norm):
    x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


def by_hand_rotation(x, row, column):
    """Complex product per channel pair of one head's vector."""
    quarter = len(x) // 4
    out = x.clone()
    for half, position in ((0, row), (1, column)):
        for j in range(quarter):
            first, second = half * 2 * quarter + j, half * 2 * quarter + quarter + j
            turned = complex(x[first], x[second]) * complex(
                math.cos(position * 100 ** (-j / quarter)), math.sin(position * 100 ** (-j / quarter))
            )
            out[first], out[second] = turned.real, turned.imag
    return out


def test_rotary_embedding_turns_channel_pairs_by_row_and_column():
    x = torch.randn(2, 3, 2 + 6, 8, dtype=torch.float64)
    rotated = apply_rope(x, rope_tables((2, 3), 8, num_special=2))
    positions = [(0, 0), (0, 0)] + [(row + 1, column + 1) for row in range(2) for column in range(3)]
    for batch in range(2):
        for head in range(3):
            for token, (row, column) in enumerate(positions):
                expected = by_hand_rotation(x[batch, head, token], row, column)
                torch.testing.assert_close(rotated[batch, head, token], expected, rtol=0, atol=1e-6)


def test_rotary_embedding_repeats_for_every_view():
    tables = rope_tables((2, 2), 8, num_special=1)
    x = torch.randn(1, 2, 3 * 5, 8)
    views = [apply_rope(part, tables) for part in x.split(5, dim=2)]
    assert torch.equal(apply_rope(x, tables), torch.cat(views, dim=2))


def test_rotary_products_depend_on_the_offset_alone():
    tables = rope_tables((6, 6), 16)
    q, k = torch.randn(16, dtype=torch.float64), torch.randn(16, dtype=torch.float64)
    rotated_q = apply_rope(q.expand(36, 16), tables).unflatten(0, (6, 6))
    rotated_k = apply_rope(k.expand(36, 16), tables).unflatten(0, (6, 6))
    here = (rotated_q[1, 2] * rotated_k[3, 3]).sum()
    there = (rotated_q[2, 4] * rotated_k[4, 5]).sum()
    torch.testing.assert_close(here, there, rtol=0, atol=1e-6)


def test_rotary_embedding_needs_four_channels_per_frequency():
    with pytest.raises(ValueError, match="multiple of 4"):
        rope_tables((2, 2), 6)


@pytest.mark.parametrize("qk_norm", [False, True])
def test_attention_matches_the_definition(qk_norm):
    attention = Attention(12, 3, qk_norm=qk_norm).double()
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=0.5)
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    out = attention(x, rope_tables((2, 2), 4, num_special=1))
    positions = [(0, 0), (1, 1), (1, 2), (2, 1), (2, 2)]
    for batch in range(2):
        projected = x[batch] @ attention.qkv.weight.T + attention.qkv.bias
        heads = []
        for head in range(3):
            q, k, v = (projected[:, 12 * part + 4 * head : 12 * part + 4 * head + 4] for part in range(3))
            if qk_norm:
                q, k = by_hand_norm(q, attention.q_norm), by_hand_norm(k, attention.k_norm)
            q, k = (
                torch.stack([by_hand_rotation(row, *at) for row, at in zip(part, positions, strict=True)])
                for part in (q, k)
            )
            weights = (q @ k.T / 2).exp()
            heads.append(weights / weights.sum(-1, keepdim=True) @ v)
        expected = torch.cat(heads, dim=-1) @ attention.proj.weight.T + attention.proj.bias
        torch.testing.assert_close(out[batch], expected, rtol=0, atol=1e-5)


def test_block_is_two_scaled_residual_branches():
    block = TransformerBlock(8, 2, layer_scale=0.25, norm_eps=1e-3).double()
    x = torch.randn(1, 4, 8, dtype=torch.float64)
    middle = x + 0.25 * block.attn(by_hand_norm(x, block.norm1))
    hidden = by_hand_norm(middle, block.norm2) @ block.mlp.fc1.weight.T + block.mlp.fc1.bias
    hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
    expected = middle + 0.25 * (hidden @ block.mlp.fc2.weight.T + block.mlp.fc2.bias)
    torch.testing.assert_close(block(x), expected, **tolerance("float64"))


def test_layer_scale_keeps_the_dtype_of_its_input():
    assert LayerScale(4, 0.1)(torch.ones(2, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="5 heads for 12 channels"):
        Attention(12, 5)


def test_initial_weights_are_narrow_and_biases_zero():
    mlp = Mlp(64, 256)
    init_transformer_weights(mlp)
    assert mlp.fc1.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not mlp.fc1.bias.any() and not mlp.fc2.bias.any()


def test_a_recomputed_block_has_the_same_gradients_and_runs_twice():
    block = TransformerBlock(8, 2, qk_norm=True).double()
    x, calls = torch.randn(2, 5, 8, dtype=torch.float64), []
    block.norm1.register_forward_hook(lambda *_: calls.append(1))
    found = []
    for recompute in (False, True):
        given = x.clone().requires_grad_()
        out = run_block(block, given, rope_tables((1, 3), 4, num_special=2), recompute=recompute)
        found.append((out.detach(), *torch.autograd.grad(out.square().sum(), [given, *block.parameters()])))
    assert all(torch.equal(plain, again) for plain, again in zip(*found, strict=True))
    assert len(calls) == 1 + 2
    with torch.no_grad():
        assert run_block(block, x, recompute=True).grad_fn is None and len(calls) == 4


@pytest.mark.parametrize("shape", [(1, 20, 8), (2, 20, 8), (7, 5, 8)], ids=["long", "two long", "many"])
def test_some_tokens_at_a_time_equal_all_at_once(monkeypatch, shape):
    block = TransformerBlock(8, 2, qk_norm=True, layer_scale=0.5).double()
    x, rope = torch.randn(shape, dtype=torch.float64), rope_tables((1, 3), 4, num_special=2)
    expected = block(x, rope).detach()
    monkeypatch.setattr("tokengroups.nn.blocks.token_budget", lambda _: 12)
    lengths = []
    block.norm2.register_forward_hook(lambda _, inputs, __: lengths.append(inputs[0].shape[:2].numel()))
    with torch.no_grad():
        torch.testing.assert_close(block(x, rope), expected, **tolerance("float64"))
    assert max(lengths) <= 12 and sum(lengths) == shape[0] * shape[1]


def test_attention_adds_numbers_to_the_logits():
    q, k, v = (torch.randn(1, 2, 5, 4) for _ in range(3))
    twice = attend(q, torch.cat([k, k[:, :, :1]], dim=2), torch.cat([v, v[:, :, :1]], dim=2))
    bias = torch.tensor([2.0, 1, 1, 1, 1]).log().expand(1, 1, 1, 5)
    torch.testing.assert_close(attend(q, k, v, bias), twice, **tolerance("float32"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_rotary_embedding_is_the_same_without_gradients(dtype):
    x, tables = torch.randn(2, 3, 2 * 8, 16).to(dtype), rope_tables((2, 3), 16, num_special=2)
    with torch.no_grad():
        found = apply_rope(x, tables)
    torch.testing.assert_close(found, apply_rope(x, tables), rtol=1e-6 if dtype != torch.bfloat16 else 0.02, atol=1e-6)
