"""Pre-norm cross-attention transformer: queries read a memory, optionally each other, then pass an MLP."""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from tokengroups.nn.blocks import attend


class Attention(nn.Module):
    """Multi-head attention of queries over a memory, both `dim` wide."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim must be a multiple of num_heads, got {dim} and {num_heads}")
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, queries: Float[Tensor, "B Q D"], memory: Float[Tensor, "B M D"]) -> Float[Tensor, "B Q D"]:
        """Attend without a mask."""
        q = rearrange(self.query(queries), "b q (h d) -> b h q d", h=self.num_heads)
        k, v = rearrange(self.key_value(memory), "b m (two h d) -> two b h m d", two=2, h=self.num_heads)
        return self.out(rearrange(attend(q, k, v), "b h q d -> b q (h d)"))


class DecoderLayer(nn.Module):
    """One layer: [self-attention,] cross-attention, MLP; each pre-norm with a residual."""

    def __init__(self, dim: int, num_heads: int, self_attention: bool) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(dim) if self_attention else None
        self.self_attention = Attention(dim, num_heads) if self_attention else None
        self.cross_norm = nn.LayerNorm(dim)
        self.cross_attention = Attention(dim, num_heads)
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, queries: Float[Tensor, "B Q D"], memory: Float[Tensor, "B M D"]) -> Float[Tensor, "B Q D"]:
        """Update the queries."""
        if self.self_norm is not None and self.self_attention is not None:
            normed = self.self_norm(queries)
            queries = queries + self.self_attention(normed, normed)
        queries = queries + self.cross_attention(self.cross_norm(queries), memory)
        return queries + self.mlp(queries)


class CrossAttentionDecoder(nn.Module):
    """`num_layers` decoder layers over one normalised memory, and a final norm."""

    def __init__(self, dim: int, num_layers: int, num_heads: int, *, self_attention: bool = False) -> None:
        super().__init__()
        self.memory_norm = nn.LayerNorm(dim)
        self.layers = nn.ModuleList(DecoderLayer(dim, num_heads, self_attention) for _ in range(num_layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, queries: Float[Tensor, "B Q D"], memory: Float[Tensor, "B M D"]) -> Float[Tensor, "B Q D"]:
        """Decode the queries against the memory."""
        memory = self.memory_norm(memory)
        for layer in self.layers:
            queries = layer(queries, memory)
        return self.norm(queries)
