"""The pre-norm transformer block (Dosovitskiy et al. 2021) with LayerScale (Touvron et al. 2021).

Attribute names are those of the DINOv2 family, so that published weights load by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tokengroups.nn.chunks import token_budget
from tokengroups.nn.linear import Linear
from tokengroups.nn.rope import RopeTables, apply_rope

Mix = Callable[[Tensor, Tensor, Tensor], Tensor]  # q, k, v [B h N d] to mixtures of the values


def attend(
    q: Float[Tensor, "*b Q d"],
    k: Float[Tensor, "*b M d"],
    v: Float[Tensor, "*b M d"],
    allowed: Bool[Tensor, "*#b Q M"] | Float[Tensor, "*#b #Q M"] | None = None,
) -> Float[Tensor, "*b Q d"]:
    """Softmax(q k^T / sqrt(d)) v in v's dtype, over the allowed keys: at least one for every query.

    Numbers instead of truth values are added to the logits.

    torch's fused kernel, except for bfloat16 gradients on a CPU: there its backward pass is three to six times
    slower than plain matrix products at the lengths used here (69 to 2,048 tokens; torch 2.13, AVX-512).
    """
    q, k = q.to(v.dtype), k.to(v.dtype)  # under autocast, norms may have returned float32
    if v.device.type != "cpu" or v.dtype != torch.bfloat16 or not torch.is_grad_enabled():
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if allowed is not None:
        logits = logits.masked_fill(~allowed, -torch.inf) if allowed.dtype == torch.bool else logits + allowed
    return logits.softmax(dim=-1, dtype=torch.float32).to(v.dtype) @ v


class Mlp(nn.Module):
    """Linear, exact GELU, linear."""

    def __init__(self, dim: int, hidden_dim: int, out_dim: int | None = None) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden_dim)
        self.fc2 = Linear(hidden_dim, dim if out_dim is None else out_dim)

    def forward(self, x: Float[Tensor, "*b C"]) -> Float[Tensor, "*b D"]:
        """Apply to the last axis."""
        return self.fc2(functional.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """A learned gain per channel of a residual branch."""

    def __init__(self, dim: int, initial: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), initial))

    def forward(self, x: Float[Tensor, "*b C"]) -> Float[Tensor, "*b C"]:
        """Scale the last axis; in the dtype of `x`, since products of mixed dtypes are slow on a CPU."""
        return x * self.gamma.to(x.dtype)


class Attention(nn.Module):
    """Multi-head self-attention; q and k may be normalised per head, then turned by a rotary embedding."""

    def __init__(self, dim: int, num_heads: int, *, qk_norm: bool = False, norm_eps: float = 1e-5) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads must divide the width, got {num_heads} heads for {dim} channels")
        self.num_heads = num_heads
        self.qkv = Linear(dim, 3 * dim)
        head_dim = dim // num_heads
        self.q_norm = nn.LayerNorm(head_dim, eps=norm_eps) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(head_dim, eps=norm_eps) if qk_norm else nn.Identity()
        self.proj = Linear(dim, dim)

    def forward(
        self, x: Float[Tensor, "B N C"], rope: RopeTables | None = None, mix: Mix = attend
    ) -> Float[Tensor, "B N C"]:
        """Let every token attend to all tokens of its sequence; `mix` may take the place of exact attention."""
        return self.join(mix(*self.heads(x, rope)))

    def heads(self, x: Float[Tensor, "B N C"], rope: RopeTables | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [B h N d]."""
        qkv = rearrange(self.qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.num_heads)
        q, k, v = qkv.unbind(0)
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = apply_rope(q, rope), apply_rope(k, rope)
        return q, k, v

    def join(self, mixed: Float[Tensor, "B h N d"]) -> Float[Tensor, "B N C"]:
        """Project what the heads mixed."""
        return self.proj(rearrange(mixed, "b h n d -> b n (h d)"))


class TransformerBlock(nn.Module):
    """x += ls1(attention(norm1(x))); x += ls2(mlp(norm2(x)))."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        mlp_ratio: float = 4.0,
        layer_scale: float = 1.0,
        norm_eps: float = 1e-5,
        qk_norm: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = Attention(dim, num_heads, qk_norm=qk_norm, norm_eps=norm_eps)
        self.ls1 = LayerScale(dim, layer_scale)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.ls2 = LayerScale(dim, layer_scale)

    def forward(
        self, x: Float[Tensor, "B N C"], rope: RopeTables | None = None, mix: Mix = attend
    ) -> Float[Tensor, "B N C"]:
        """Map sequences of tokens; `rope` turns the queries and keys, `mix` may take the place of exact attention.

        Without gradients many tokens are mapped some at a time, which differs by rounding alone.
        """
        batch, length = x.shape[:2]
        most = token_budget(x.device)
        if torch.is_grad_enabled() or batch * length <= most:
            return self.add_mlp(x + self.ls1(self.attn(self.norm1(x), rope, mix)))
        out = torch.empty_like(x)
        if length > most:
            for one, result in zip(x.split(1), out.split(1), strict=True):
                self._map_long(one, rope, mix, result)
            return out
        for some, result in zip(x.split(most // length), out.split(most // length), strict=True):
            result.copy_(self.add_mlp(some + self.ls1(self.attn(self.norm1(some), rope, mix))))
        return out

    def add_mlp(self, x: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        """The second residual branch."""
        return x + self.ls2(self.mlp(self.norm2(x)))

    def _map_long(self, x: Float[Tensor, "1 N C"], rope: RopeTables | None, mix: Mix, out: Tensor) -> None:
        """Map one long sequence into `out`: beside the heads' inputs and mixtures, some tokens at a time."""
        period = 1 if rope is None else len(rope[0])  # the tables repeat for every view
        step = max(1, token_budget(x.device) // period) * period
        parts = [slice(start, start + step) for start in range(0, x.shape[1], step)]
        mixed = mix(*self._long_heads(x, rope, parts))
        for rows in parts:
            out[:, rows] = self.add_mlp(x[:, rows] + self.ls1(self.attn.join(mixed[:, :, rows])))

    def _long_heads(
        self, x: Float[Tensor, "1 N C"], rope: RopeTables | None, parts: list[slice]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of all tokens, in the values' dtype."""
        whole = None
        for rows in parts:
            heads = self.attn.heads(self.norm1(x[:, rows]), rope)
            if whole is None:
                batch, number, _, dim = heads[2].shape
                whole = heads[2].new_empty(3, batch, number, x.shape[1], dim)
            for target, part in zip(whole, heads, strict=True):
                target[:, :, rows] = part
        assert whole is not None
        return whole[0], whole[1], whole[2]


def run_block(block: nn.Module, *inputs: Any, recompute: bool) -> Any:
    """Call a block; with `recompute` the backward pass computes its inner values again, so that none is kept.

    This is gradient checkpointing (Chen et al. 2016): the same gradients, less memory, one more forward pass.
    """
    if recompute and torch.is_grad_enabled():
        return checkpoint(block, *inputs, use_reentrant=False)
    return block(*inputs)


def init_transformer_weights(module: nn.Module) -> None:
    """Draw truncated-normal weights and set zero biases for every linear layer in `module`, as ViT does."""
    for child in module.modules():
        if isinstance(child, nn.Linear):
            nn.init.trunc_normal_(child.weight, std=0.02)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
