"""SegVGGT's cross block: instance queries read the tokens of all frames. Parameters have official names."""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from tokengroups.nn.blocks import LayerScale, Mlp, attend
from tokengroups.nn.linear import Linear

QUERY_BLOCK = 128  # queries at a time: bounds the memory where torch has no fused kernel
MASK_THRESHOLD = 0.4  # probability above which a query with mask attention reads a patch


class Gaze(NamedTuple):
    """What the queries of one layer may read, and what is to be known about their attention."""

    allowed: Bool[Tensor, "B Q N"] | None = None  # tokens that each query may read; None = all
    always: Bool[Tensor, "N"] | None = None  # allow these, and others by the attention's own products
    regions: Float[Tensor, "B N G"] | None = None  # weights of tokens, whose attended means are returned
    uniform: bool = False  # attend to all allowed tokens alike


EVERYTHING = Gaze()


class QueryCrossAttention(nn.Module):
    """Multi-head attention of queries to tokens; q and k normalised per head, no positions."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = Linear(dim, dim)
        self.k_proj = Linear(dim, dim)
        self.v_proj = Linear(dim, dim)
        self.q_norm = nn.LayerNorm(dim // num_heads)
        self.k_norm = nn.LayerNorm(dim // num_heads)
        self.proj = Linear(dim, dim)

    def forward(
        self, queries: Float[Tensor, "B Q C"], tokens: Float[Tensor, "B N C"], gaze: Gaze
    ) -> tuple[Float[Tensor, "B Q C"], Float[Tensor, "B Q G"] | None]:
        """Mixtures of the tokens' values, and the attended means of `gaze.regions`; no attention map is kept."""
        q = self.q_norm(self._heads(self.q_proj(queries)))
        k = self.k_norm(self._heads(self.k_proj(tokens)))
        v = self._heads(self.v_proj(tokens))
        mixed, means = [], []
        for start in range(0, q.shape[2], QUERY_BLOCK):
            rows = slice(start, start + QUERY_BLOCK)
            allowed = _allowed(q[:, :, rows], k, gaze, rows)
            asked = torch.zeros_like(q[:, :, rows]) if gaze.uniform else q[:, :, rows]
            mixed.append(attend(asked, k, v, allowed))
            if gaze.regions is not None:
                means.append(attended_means(asked, k, gaze.regions, allowed))
        joined = self.proj(rearrange(torch.cat(mixed, dim=2), "b h q d -> b q (h d)"))
        return joined, torch.cat(means, dim=1) if means else None

    def _heads(self, x: Float[Tensor, "B N C"]) -> Float[Tensor, "B h N d"]:
        return rearrange(x, "b n (h d) -> b h n d", h=self.num_heads)


class QueryCrossBlock(nn.Module):
    """Queries += ls1(attention(norm_q(queries), norm_kv(tokens))); queries += ls2(mlp(norm2(queries)))."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, layer_scale: float) -> None:
        super().__init__()
        self.norm_q = nn.LayerNorm(dim)
        self.norm_kv = nn.LayerNorm(dim)
        self.attn = QueryCrossAttention(dim, num_heads)
        self.ls1 = LayerScale(dim, layer_scale)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.ls2 = LayerScale(dim, layer_scale)

    def forward(
        self, queries: Float[Tensor, "B Q C"], tokens: Float[Tensor, "B N C"], gaze: Gaze = EVERYTHING
    ) -> tuple[Float[Tensor, "B Q C"], Float[Tensor, "B Q G"] | None]:
        """The next queries, and the attended means of `gaze.regions`."""
        mixed, means = self.attn(self.norm_q(queries), self.norm_kv(tokens), gaze)
        queries = queries + self.ls1(mixed)
        return queries + self.ls2(self.mlp(self.norm2(queries))), means


def attended_means(
    q: Float[Tensor, "B h Q d"],
    k: Float[Tensor, "B h N d"],
    regions: Float[Tensor, "B N G"],
    allowed: Bool[Tensor, "B 1 Q N"] | None = None,
) -> Float[Tensor, "B Q G"]:
    """Means of token weights under the attention, averaged over the heads; in float32.

    The weights take the place of the values, so that torch's fused kernels, which want values as wide as keys, compute
    sums of attention without ever holding it.
    """
    width, means = k.shape[-1], []
    with torch.autocast(q.device.type, enabled=False):
        for part in regions.to(torch.promote_types(q.dtype, torch.float32)).split(width, dim=-1):
            values = functional.pad(part, (0, width - part.shape[-1]))[:, None].expand(-1, k.shape[1], -1, -1)
            means.append(attend(q, k, values, allowed)[..., : part.shape[-1]].mean(dim=1))
    return torch.cat(means, dim=-1)


@torch.no_grad()
def _allowed(
    q: Float[Tensor, "B h Q d"], k: Float[Tensor, "B h N d"], gaze: Gaze, rows: slice
) -> Bool[Tensor, "B 1 Q N"] | None:
    """Tokens that a block of queries may read; None = all."""
    if gaze.always is not None:
        products = rearrange(q, "b h q d -> b q (h d)") @ rearrange(k, "b h n d -> b (h d) n")
        probs = (products * (q.shape[-1] ** -0.5 / q.shape[1])).sigmoid()  # of the mean over the heads
        return ((probs > MASK_THRESHOLD) | gaze.always)[:, None]
    return None if gaze.allowed is None else gaze.allowed[:, None, rows]
