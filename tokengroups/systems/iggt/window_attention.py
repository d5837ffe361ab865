"""Attention in windows of a map, as in HAT (Chen et al. 2023), with the layouts that IGGT's released weights want."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from tokengroups.nn.blocks import Mlp, attend

MLP_RATIO = 4
BODY_CHANNELS = 64  # between the two last convolutions
LEAK = 0.01
CHANNEL_ATTENTION_WEIGHT = 0.01
CONV_SQUEEZE, ATTENTION_SQUEEZE = 3, 30  # of the channels, in the channel attention block


def relative_index(window: int, key_window: int) -> Int64[Tensor, "Q M"]:
    """Row of the bias table for every query cell (row-major) and key cell.

    With wider windows of keys the released table is indexed with negative numbers, which count from its end.
    """
    queries, keys = (torch.cartesian_prod(torch.arange(n), torch.arange(n)) for n in (window, key_window))
    shift = window - 1 if key_window == window else window - key_window + 1
    # A table for equal windows takes query minus key, one for wider windows key minus query.
    difference = queries[:, None] - keys if key_window == window else keys - queries[:, None]
    rows, columns = (difference + shift).unbind(-1)
    return rows * (window + key_window - 1) + columns


def pad_to_windows(x: Float[Tensor, "N D h w"], window: int) -> Float[Tensor, "N D H W"]:
    """Reflect at the lower and right edge up to a multiple of the window; the same map if it is one."""
    height, width = x.shape[-2:]
    bottom, right = -height % window, -width % window
    if not bottom and not right:
        return x
    mode = "reflect" if bottom < height and right < width else "replicate"
    return functional.pad(x, (0, right, 0, bottom), mode=mode)


def cut(x: Float[Tensor, "N h w D"], window: int) -> Float[Tensor, "n Q D"]:
    """Cut maps into windows, row-major."""
    return rearrange(x, "n (h p) (w q) d -> (n h w) (p q) d", p=window, q=window)


def joined(windows: Float[Tensor, "n Q D"], size_hw: tuple[int, int], window: int) -> Float[Tensor, "N h w D"]:
    """Put the windows of maps together again."""
    h, w = size_hw[0] // window, size_hw[1] // window
    return rearrange(windows, "(n h w) (p q) d -> n (h p) (w q) d", h=h, w=w, p=window, q=window)


class _PatchEmbed(nn.Module):
    """A norm under the official name."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)


class _WindowBlock(nn.Module):
    """Norm, attention block, norm, and three convolutions, the first with a skip of the input map."""

    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.patch_embed = _PatchEmbed(channels)
        self.norm = nn.LayerNorm(channels)
        self.conv_after_body = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.conv_before_upsample = nn.Sequential(
            nn.Conv2d(channels, BODY_CHANNELS, kernel_size=3, padding=1), nn.LeakyReLU(LEAK)
        )
        self.conv_last = nn.Conv2d(BODY_CHANNELS, channels, kernel_size=3, padding=1)
        self.register_buffer("relative_position_index_SA", relative_index(window, window))

    def tokens(self, x: Float[Tensor, "N D h w"]) -> Float[Tensor, "N H W D"]:
        """Normalised cells of the padded map."""
        return self.patch_embed.norm(rearrange(pad_to_windows(x, self.window), "n d h w -> n h w d"))

    def finish(self, tokens: Float[Tensor, "N H W D"], x: Float[Tensor, "N D h w"]) -> Float[Tensor, "N D h w"]:
        """Back to a map of the size of `x`, which is added before the last two convolutions."""
        body = rearrange(self.norm(tokens), "n h w d -> n d h w")[:, :, : x.shape[-2], : x.shape[-1]]
        return self.conv_last(self.conv_before_upsample(self.conv_after_body(body) + x))


class _CrossBlock(nn.Module):
    """Attention of windows of queries to wider windows of another map."""

    def __init__(self, channels: int, heads: int, window: int, key_window: int, legacy_layout: bool) -> None:
        super().__init__()
        self.heads, self.window, self.key_window, self.legacy_layout = heads, window, key_window, legacy_layout
        self.norm1 = nn.LayerNorm(channels)
        self.q = nn.Linear(channels, channels)
        self.k = nn.Linear(channels, channels)
        self.v = nn.Linear(channels, channels)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((window + key_window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.proj = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, MLP_RATIO * channels)

    def forward(
        self, x: Float[Tensor, "N H W D"], other: Float[Tensor, "N H W D"], index: Int64[Tensor, "Q M"]
    ) -> Float[Tensor, "N H W D"]:
        """Refined queries; `index` has the bias of every pair of cells."""
        normed, keys = self.norm1(x), self.norm1(other)
        q = self._split(self._query_windows(self.q(normed)))
        k, v = (self._split(self._key_windows(linear(keys))) for linear in (self.k, self.v))
        bias = rearrange(self.relative_position_bias_table[index], "q m h -> h q m").to(v.dtype)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        mixed = rearrange(mixed, "n h q d -> n q (h d)")
        x = x + joined(self.proj(mixed), (x.shape[1], x.shape[2]), self.window)
        return x + self.mlp(self.norm2(x))

    def _split(self, windows: Float[Tensor, "n Q D"]) -> Float[Tensor, "n h Q d"]:
        return rearrange(windows, "n q (h d) -> n h q d", h=self.heads)

    def _query_windows(self, q: Float[Tensor, "N H W D"]) -> Float[Tensor, "n Q D"]:
        if not self.legacy_layout:
            return cut(q, self.window)
        # Channels and rows in blocks of a window's side, all columns together, then read on as if channels came last.
        blocks = rearrange(q, "n (h p) w (c r) -> n c h r p w", p=self.window, r=self.window)
        return blocks.reshape(-1, self.window**2, q.shape[-1])

    def _key_windows(self, x: Float[Tensor, "N H W D"]) -> Float[Tensor, "n M D"]:
        """Overlapping windows; beyond the edges keys are zero vectors, which take part in the softmax."""
        margin = (self.key_window - self.window) // 2
        padded = functional.pad(x, (0, 0, margin, margin, margin, margin))
        windows = padded.unfold(1, self.key_window, self.window).unfold(2, self.key_window, self.window)
        return rearrange(windows, "n h w d p q -> (n h w) (p q) d")


class WindowCrossAttention(_WindowBlock):
    """Refine a map by attention to another one of the same size."""

    def __init__(
        self, channels: int, heads: int, window: int, key_window: int, *, legacy_layout: bool, shift: int = 0
    ) -> None:
        super().__init__(channels, window)
        self.shift = shift
        self.atten_block = _CrossBlock(channels, heads, window, key_window, legacy_layout)
        self.register_buffer("relative_position_index_OCA", relative_index(window, key_window))

    def forward(self, x: Float[Tensor, "N D h w"], other: Float[Tensor, "N D h w"]) -> Float[Tensor, "N D h w"]:
        """Same size out; a shift moves the windows' corners by so many cells, around the edges."""
        mine, theirs = (self.tokens(maps).roll((-self.shift, -self.shift), (1, 2)) for maps in (x, other))
        index: Tensor = self.relative_position_index_OCA  # pyright: ignore[reportAssignmentType] # a buffer
        refined = self.atten_block(mine, theirs, index).roll((self.shift, self.shift), (1, 2))
        return self.finish(refined, x)


class _SelfAttention(nn.Module):
    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, windows: Float[Tensor, "n Q D"]) -> Float[Tensor, "n Q D"]:
        q, k, v = rearrange(self.qkv(windows), "n q (three h d) -> three n h q d", three=3, h=self.heads).unbind(0)
        return self.proj(rearrange(attend(q, k, v), "n h q d -> n q (h d)"))


class _ChannelAttention(nn.Module):
    """A gate per channel from the mean of the map (Zhang et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(channels // ATTENTION_SQUEEZE, 1)
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, squeezed, 1), nn.ReLU(), nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: Float[Tensor, "N D h w"]) -> Float[Tensor, "N D h w"]:
        return x * self.attention(x)


class _ConvBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(channels // CONV_SQUEEZE, 1)
        self.cab = nn.Sequential(
            nn.Conv2d(channels, squeezed, 3, padding=1), nn.GELU(), nn.Conv2d(squeezed, channels, 3, padding=1),
            _ChannelAttention(channels),
        )  # fmt: skip

    def forward(self, x: Float[Tensor, "N h w D"]) -> Float[Tensor, "N h w D"]:
        return rearrange(self.cab(rearrange(x, "n h w d -> n d h w")), "n d h w -> n h w d")


class _SelfBlock(nn.Module):
    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(channels)
        self.attn = _SelfAttention(channels, heads)
        self.conv_block = _ConvBlock(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, MLP_RATIO * channels)

    def forward(self, x: Float[Tensor, "N H W D"]) -> Float[Tensor, "N H W D"]:
        normed = self.norm1(x)
        mixed = joined(self.attn(cut(normed, self.window)), (x.shape[1], x.shape[2]), self.window)
        x = x + mixed + CHANNEL_ATTENTION_WEIGHT * self.conv_block(normed)
        return x + self.mlp(self.norm2(x))


class WindowSelfAttention(_WindowBlock):
    """Refine a map by attention among the cells of each window, beside a gated convolution."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__(channels, window)
        self.atten_block = _SelfBlock(channels, heads, window)

    def forward(self, x: Float[Tensor, "N D h w"]) -> Float[Tensor, "N D h w"]:
        """Same size out."""
        return self.finish(self.atten_block(self.tokens(x)), x)
