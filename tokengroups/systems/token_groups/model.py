"""The token-group model on top of an encoder's geometry (arXiv 2606.29513).

photos [B V 3 H W], Geometry
  -> context [B M D]      sum of RGB, feature and point-map embeddings of each patch        context.py
  -> anchors [B K 3]      farthest-point sampling; query = context token + MLP(position)    anchors.py
  -> D_anchor             anchors attend to the context                                     nn/decoder.py
  -> D_group              L learned group tokens attend to the anchors
  -> assignment [B K L]   pi = softmax over groups of <A_k, G_l>                            assignment.py
  -> Gaussians            N_g an anchor, which inherit its assignment                       nn/gaussian_head.py
  -> semantics            s_l, r_k and W_r                                                  semantic_head.py
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from tokengroups.encoders import Geometry
from tokengroups.geometry import mean_distance
from tokengroups.nn.decoder import CrossAttentionDecoder
from tokengroups.nn.gaussian_head import GaussianHead
from tokengroups.nn.position import PositionEmbedding
from tokengroups.systems.token_groups.anchors import Anchors, sample_anchors, take
from tokengroups.systems.token_groups.assignment import GroupAssignment
from tokengroups.systems.token_groups.config import TokenGroupsConfig
from tokengroups.systems.token_groups.context import ContextEmbedding
from tokengroups.systems.token_groups.semantic_head import DecodedSemantics, SemanticHead
from tokengroups.types import Gaussians, TensorFields


@dataclass(frozen=True)
class TokenGroupsOutput(TensorFields):
    """Decoded token groups of a batch of scenes, in the encoder's world and scale."""

    gaussians: Gaussians  # batch axes *b; anchor by anchor
    anchor_ids: Int64[Tensor, " N"]
    anchors: Float[Tensor, "*b K 3"]
    anchor_pixels: Int64[Tensor, "*b K 3"]  # view, row, column of the source pixel
    anchor_keys: Float[Tensor, "*b K D"]  # compared with the groups' keys
    assignment: Float[Tensor, "*b K L"]
    group_tokens: Float[Tensor, "*b L D"]
    semantics: DecodedSemantics | None = None


class TokenGroupModel(nn.Module):
    """Everything that is trained on top of the frozen encoder, whose patch features have `feature_dim` channels."""

    def __init__(self, config: TokenGroupsConfig, feature_dim: int) -> None:
        super().__init__()
        self.config = config
        dim, heads = config.dim, config.num_heads
        self.context = ContextEmbedding(dim, feature_dim, config.context_patch)
        self.anchor_position = PositionEmbedding(dim)
        self._build_more(config)
        self.group_tokens = nn.Parameter(torch.randn(config.num_groups, dim) * 0.5)
        self.anchor_decoder = CrossAttentionDecoder(dim, config.anchor_layers, heads)
        self.group_decoder = CrossAttentionDecoder(dim, config.group_layers, heads, self_attention=True)
        self.assignment = GroupAssignment(dim, config.assignment_temperature)
        bounds = config.offset_bound, config.scale_bound, config.offset_unit
        self.gaussian_head = GaussianHead(dim, config.gaussians_per_anchor, config.sh_degree, *bounds)
        self.semantic_head = None
        if config.semantic_dim:
            self.semantic_head = SemanticHead(dim, config.semantic_dim, config.residual_dim, config.group_embeddings)

    def forward(
        self, images: Float[Tensor, "B V 3 H W"], geometry: Geometry, fps_start: int | None = None
    ) -> TokenGroupsOutput:
        """Decode token groups; H and W are multiples of the context patch, `fps_start` is that of `sample_anchors`."""
        config = self.config
        counts = torch.isfinite(geometry.depth) if geometry.mask is None else geometry.mask
        scale = mean_distance(geometry.points.flatten(1, 3), counts.flatten(1))
        context = self.embed_context(images, geometry, scale)
        shown = context if geometry.mask is None else context[:, _shown_patches(geometry.mask, config.context_patch)]
        anchors = self.sample(images, geometry, fps_start)
        anchor_tokens = self.anchor_decoder(self.anchor_queries(context, anchors, geometry, scale), shown)
        group_tokens = self.group_decoder(self.group_tokens.expand(images.shape[0], -1, -1), anchor_tokens)
        assignment, anchor_keys = self.assignment(anchor_tokens, group_tokens)
        spacings = anchors.pixel_sizes * config.pixels_per_anchor(images.shape[3] * images.shape[4])
        ids = torch.arange(anchors.points.shape[1], device=images.device)
        return TokenGroupsOutput(
            gaussians=self.gaussian_head(anchor_tokens, anchors.points, spacings, anchors.colors),
            anchor_ids=ids.repeat_interleave(config.gaussians_per_anchor),
            anchors=anchors.points,
            anchor_pixels=anchors.pixels,
            anchor_keys=anchor_keys,
            assignment=assignment,
            group_tokens=group_tokens.float(),
            semantics=self.semantic_head and self.semantic_head(group_tokens, anchor_tokens, assignment),
        )

    def embed_context(
        self, images: Float[Tensor, "B V 3 H W"], geometry: Geometry, scale: Float[Tensor, " B"]
    ) -> Float[Tensor, "B M D"]:
        """Context tokens X."""
        return self.context(images, geometry, scale)

    def sample(self, images: Float[Tensor, "B V 3 H W"], geometry: Geometry, fps_start: int | None) -> Anchors:
        """Sample the anchors of every scene."""
        return sample_anchors(images, geometry, self.config, fps_start)

    def anchor_queries(
        self, context: Float[Tensor, "B M D"], anchors: Anchors, geometry: Geometry, scale: Float[Tensor, " B"]
    ) -> Float[Tensor, "B K D"]:
        """A^(0): the context token that holds the anchor plus an MLP of its position."""
        del geometry
        return take(context, anchors.context_index) + self.anchor_position(anchors.points / scale[:, None, None])

    def _build_more(self, config: TokenGroupsConfig) -> None:
        """Build the parts that a relative of this model adds to context and queries."""


def _shown_patches(mask: Bool[Tensor, "1 V H W"], patch: int) -> Bool[Tensor, " M"]:
    """Patches of one scene of which some pixel counts."""
    return rearrange(mask, "1 v (h p) (w q) -> (v h w) (p q)", p=patch, q=patch).any(dim=1)
