"""The pre-norm transformer block (Dosovitskiy et al. 2021) with LayerScale (Touvron et al. 2021).

Attribute names are those of the DINOv2 family, so that published weights load by name.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tokengroups.nn.rope import RopeTables, apply_rope


def attend(
    q: Float[Tensor, "*b Q d"],
    k: Float[Tensor, "*b M d"],
    v: Float[Tensor, "*b M d"],
    allowed: Bool[Tensor, "*#b Q M"] | None = None,
) -> Float[Tensor, "*b Q d"]:
    """Softmax(q k^T / sqrt(d)) v in v's dtype, over the allowed keys: at least one for every query.

    torch's fused kernel, except for bfloat16 gradients on a CPU: there its backward pass is three to six times
    slower than plain matrix products at the lengths used here (69 to 2,048 tokens; torch 2.13, AVX-512).
    """
    q, k = q.to(v.dtype), k.to(v.dtype)  # under autocast, norms may have returned float32
    if v.device.type != "cpu" or v.dtype != torch.bfloat16 or not torch.is_grad_enabled():
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if allowed is not None:
        logits = logits.masked_fill(~allowed, -torch.inf)
    return logits.softmax(dim=-1, dtype=torch.float32).to(v.dtype) @ v


class Mlp(nn.Module):
    """Linear, exact GELU, linear."""

    def __init__(self, dim: int, hidden_dim: int, out_dim: int | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim if out_dim is None else out_dim)

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
        self.qkv = nn.Linear(dim, 3 * dim)
        head_dim = dim // num_heads
        self.q_norm = nn.LayerNorm(head_dim, eps=norm_eps) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(head_dim, eps=norm_eps) if qk_norm else nn.Identity()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "B N C"], rope: RopeTables | None = None) -> Float[Tensor, "B N C"]:
        """Let every token attend to all tokens of its sequence."""
        qkv = rearrange(self.qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.num_heads)
        q, k, v = qkv.unbind(0)
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = apply_rope(q, rope), apply_rope(k, rope)
        mixed = attend(q, k, v)
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

    def forward(self, x: Float[Tensor, "B N C"], rope: RopeTables | None = None) -> Float[Tensor, "B N C"]:
        """Map a sequence of tokens; `rope` turns the queries and keys."""
        x = x + self.ls1(self.attn(self.norm1(x), rope))
        return x + self.ls2(self.mlp(self.norm2(x)))


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
