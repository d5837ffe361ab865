"""SegVGGT's cross block against loops in float64: attention, masks, uniform attention, attended means."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tolerances import tolerance
from torch import Tensor, nn

from tokengroups.systems.segvggt.query_blocks import Gaze, QueryCrossBlock


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
