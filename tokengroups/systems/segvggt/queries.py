"""SegVGGT's instance queries: after every global block of the trunk they read its tokens, then each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from tokengroups.encoders.vggt import VGGTConfig
from tokengroups.farthest_points import farthest_point_sampling
from tokengroups.nn.blocks import TransformerBlock, run_block
from tokengroups.systems.segvggt.config import QueryConfig
from tokengroups.systems.segvggt.query_blocks import EVERYTHING, MASK_THRESHOLD, Gaze, QueryCrossBlock

# Masks of sampled queries start with the logits gain * (cosine - least similarity).
SIMILARITY_GAIN, LEAST_SIMILARITY = 10.0, 0.5


@dataclass(frozen=True)
class Reading:
    """What to return beside the last queries, and how the queries read: for losses and for diagnosis."""

    states: bool = False  # the queries after every layer
    frame_attention: bool = False
    # Weights of all tokens (special tokens of a frame first), whose means under the attention are returned.
    regions: Float[Tensor, "B S P G"] | None = None
    uniform: bool = False  # attention that is equal for all tokens


PLAIN = Reading()


@dataclass(frozen=True)
class QueryStates:
    """Projected queries after every layer (L), and means under its attention, averaged over heads."""

    projected: Float[Tensor, "L B Q E"]
    frame_attention: Float[Tensor, "L B Q S"] | None = None  # mean over a frame's tokens: P times it sums to 1
    region_attention: Float[Tensor, "L B Q G"] | None = None


class InstanceQueries(nn.Module):
    """Learned queries and their blocks; parameters have official names.

    Args:
        encoder: Sizes of the VGGT.
        config: Sizes of the blocks.
        mask_dim: Channels of the projected queries.

    Raises:
        ValueError: Layers that the trunk does not have, or in descending order.
    """

    def __init__(self, encoder: VGGTConfig, config: QueryConfig, mask_dim: int) -> None:
        super().__init__()
        self.layers = config.layers or tuple(range(encoder.depth))
        if sorted(self.layers) != list(self.layers) or self.layers[-1] >= encoder.depth or self.layers[0] < 0:
            raise ValueError(f"queries.layers must not descend in [0, {encoder.depth}), got {self.layers}")
        self.recompute = False  # the blocks' inner values in the backward pass, to save memory
        dim, heads, count = encoder.embed_dim, encoder.num_heads, len(self.layers)
        self.num_special, self.mask_attention = encoder.num_special, config.mask_attention
        self.number, sampled = config.number, config.start == "sampled"
        self.instance_query_token = nn.Parameter(config.std * torch.randn(1, 1 if sampled else config.number, dim))
        self.instance_cross_blocks = nn.ModuleList(
            QueryCrossBlock(dim, heads, config.cross_mlp_ratio, config.layer_scale) for _ in range(count)
        )
        self.instance_query_self_attn = nn.ModuleList(
            TransformerBlock(
                dim, heads, mlp_ratio=config.self_mlp_ratio, layer_scale=config.layer_scale, qk_norm=True
            )
            for _ in range(count)
        )  # fmt: skip
        self.instance_queries_proj = nn.Linear(dim, mask_dim)
        self.instance_query_start = nn.Linear(mask_dim, dim) if sampled else None
        gains = torch.full((mask_dim,), SIMILARITY_GAIN)
        gains[-1] = -SIMILARITY_GAIN * LEAST_SIMILARITY
        self.instance_query_gains = nn.Parameter(gains) if sampled else None

    def forward(
        self,
        layers: Sequence[Float[Tensor, "B S P C"]],
        patch_features: Callable[[], Float[Tensor, "B M E"]],
        reading: Reading = PLAIN,
    ) -> QueryStates:
        """Update the queries layer by layer.

        Args:
            layers: Global blocks' outputs, of the layers that the queries read.
            patch_features: Gives the masks' features of every patch, frames in order; called for sampled starts and
                mask attention alone.
            reading: What to return, and how to read.
        """
        wanted = self.mask_attention == "masks" or self.instance_query_start is not None
        features = patch_features() if wanted else None
        queries, samples = self.start(len(layers[-1]), features)
        regions = _regions(layers[-1], reading)
        states, means = [], []
        blocks = zip(layers, self.instance_cross_blocks, self.instance_query_self_attn, strict=True)
        for tokens, cross, among in blocks:
            gaze = self._gaze(queries, samples, tokens, features)._replace(regions=regions, uniform=reading.uniform)
            queries, attended = run_block(cross, queries, tokens.flatten(1, 2), gaze, recompute=self.recompute)
            queries = run_block(among, queries, recompute=self.recompute)
            states.append(queries)
            means.append(attended)
        projected = self.project(torch.stack(states), samples)
        if regions is None:
            return QueryStates(projected)
        views, count = layers[-1].shape[1], layers[-1].shape[2]
        frames, others = torch.stack(means).split([views, regions.shape[-1] - views], dim=-1)
        return QueryStates(
            projected,
            frames / count if reading.frame_attention else None,
            others if reading.regions is not None else None,
        )

    def features(self, maps: Float[Tensor, "B S E h w"]) -> Float[Tensor, "B S E h w"]:
        """The masks' features of the dense head's maps: the maps themselves, or unit vectors and a constant."""
        if self.instance_query_start is None:
            return maps
        return torch.cat([functional.normalize(maps[:, :, :-1], dim=2), torch.ones_like(maps[:, :, -1:])], dim=2)

    def start(
        self, batch: int, features: Float[Tensor, "B M E"] | None
    ) -> tuple[Float[Tensor, "B Q C"], Float[Tensor, "B Q E"] | None]:
        """The learned queries, and features of a patch for each, if the configuration says so."""
        queries = self.instance_query_token.expand(batch, -1, -1)
        if self.instance_query_start is None or features is None:
            return queries, None
        count = min(self.number, features.shape[1])
        chosen = farthest_point_sampling(features, count)
        chosen = chosen[:, torch.arange(self.number, device=chosen.device) % count]
        sampled = features.gather(1, repeat(chosen, "b q -> b q e", e=features.shape[-1]))
        return queries + self.instance_query_start(sampled), sampled

    def project(
        self, states: Float[Tensor, "*b Q C"], samples: Float[Tensor, "B Q E"] | None
    ) -> Float[Tensor, "*b Q E"]:
        """Queries in the space of the masks' features, in float32."""
        with torch.autocast(states.device.type, enabled=False):
            projected = self.instance_queries_proj(states.to(self.instance_queries_proj.weight.dtype))
            gains = self.instance_query_gains
            return projected if samples is None or gains is None else projected + gains * samples

    @torch.no_grad()
    def _gaze(
        self,
        queries: Float[Tensor, "B Q C"],
        samples: Float[Tensor, "B Q E"] | None,
        tokens: Float[Tensor, "B S P C"],
        features: Float[Tensor, "B M E"] | None,
    ) -> Gaze:
        """Mask attention, where the configuration asks for it."""
        if self.mask_attention == "none":
            return EVERYTHING
        views, count = tokens.shape[1:3]
        special = (torch.arange(count, device=tokens.device) < self.num_special).repeat(views)
        if self.mask_attention == "products" or features is None:
            return Gaze(always=special)
        probs = (self.project(queries, samples) @ features.mT).sigmoid()
        return Gaze(allowed=_with_special(probs > MASK_THRESHOLD, special))


def _with_special(patches: Bool[Tensor, "B Q M"], special: Bool[Tensor, "N"]) -> Bool[Tensor, "B Q N"]:
    """Put the special tokens, all allowed, between the patches."""
    allowed = patches.new_ones(*patches.shape[:2], len(special))
    allowed[:, :, ~special] = patches
    return allowed


def _regions(tokens: Float[Tensor, "B S P C"], reading: Reading) -> Float[Tensor, "B N G"] | None:
    """The frames, then the regions asked for; None if nothing is asked."""
    if not reading.frame_attention and reading.regions is None:
        return None
    batch, views, count = tokens.shape[:3]
    frames = repeat(torch.eye(views, device=tokens.device), "s g -> b (s p) g", b=batch, p=count)
    if reading.regions is None:
        return frames
    return torch.cat([frames, rearrange(reading.regions.to(frames), "b s p g -> b (s p) g")], dim=-1)
