"""Token groups: anchors and group tokens decoded from a frozen encoder's features (arXiv 2606.29513).

images [B,V,3,H,W] + FrozenGeometry
  -> context tokens                 sum of RGB, feature and point-map embeddings of each patch
  -> anchors [B,K,3]                farthest-point sampling of surface points; query = token + position
  -> D_anchor                       anchors attend to the context
  -> D_group                        L learned group tokens attend to the anchors
  -> assignment [B,K,L]             softmax over groups of <A_k, G_l>
  -> Gaussians [B, K * N_g]         inherit their anchor's assignment
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn

from tokengroups.farthest_points import farthest_point_sampling
from tokengroups.geometry import mean_distance
from tokengroups.nn.decoder import CrossAttentionDecoder
from tokengroups.nn.gaussian_head import GaussianHead, OffsetUnit
from tokengroups.nn.position import PositionEmbedding
from tokengroups.systems.token_groups.context import (
    AnchorCandidates,
    ContextEmbedding,
    FrozenGeometry,
    anchor_candidates,
    candidate_stride,
)
from tokengroups.systems.token_groups.semantic_head import DecodedSemantics, SemanticHead
from tokengroups.systems.token_groups_tiny.single_view_features import PhotoFeatureEmbedding
from tokengroups.types import Gaussians, TensorFields


@dataclass(frozen=True)
class TokenGroupsConfig:
    """Shape of the decoders; the defaults are the paper's full size, what it leaves open is ours."""

    context_patch: int = 16  # pixels per side of a context token's patch
    anchor_stride: int = 16  # pixels between anchor candidates; halved until there are num_anchors of them
    num_anchors: int = 1024  # K, of up to footprint_views photos
    anchor_growth: float = 0.0  # of more photos: K times their number over footprint_views to this power
    num_groups: int = 100  # L
    gaussians_per_anchor: int = 32  # N_g
    dim: int = 512  # width of context, anchor and group tokens
    num_heads: int = 8
    anchor_layers: int = 4
    group_layers: int = 6
    sh_degree: int = 0
    offset_bound: float = 2.0  # largest offset of a Gaussian from its anchor per axis
    offset_unit: OffsetUnit = "footprints"  # of its anchor; points = the point map's unit, as in the paper
    footprint_views: int = (
        2  # photos' worth of pixels that the anchors share among them; sets their footprints
    )
    scale_bound: float = 0.8  # largest standard deviation, in anchor footprints; above 0.35
    assignment_temperature: float = 3.0  # initial factor of the scaled dot products
    semantic_dim: int = (
        0  # channels of the text encoder whose space the groups' embeddings live in; 0 = no semantics
    )
    residual_dim: int = 8  # of an anchor's semantic residual
    group_embeddings: bool = True  # False: meaning lies in the residuals alone, for ablations
    text_encoder: str = ""  # name of that space
    photo_features: bool = False  # read the maps of a small encoder's perspective network
    mirrored_grouping: bool = False  # average the groups with those of the mirrored photos: a second pass
    sharpening_steps: int = 0  # gradient steps that fit the Gaussians to two photos; see `steps_for`
    border_rounds: int = 0  # in which groups agree with the borders that the perspective network sees

    def __post_init__(self) -> None:
        """Refuse negative numbers of steps and rounds."""
        for name in ("sharpening_steps", "border_rounds"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")

    def anchors_of(self, num_views: int) -> int:
        """Anchors of a scene of so many photos."""
        return round(self.num_anchors * max(1.0, num_views / self.footprint_views) ** self.anchor_growth)


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


class TokenGroupDecoder(nn.Module):
    """Everything that is trained on top of the frozen encoder.

    Args:
        config: Shape.
        feature_dim: Channels of the encoder's patch features.
        photo_dims: Channels of its maps of single photos; they are read if the configuration says so.

    Raises:
        ValueError: An anchor stride that does not divide the context patch, or no maps to read.
    """

    def __init__(self, config: TokenGroupsConfig, feature_dim: int, photo_dims: tuple[int, ...] = ()) -> None:
        super().__init__()
        if config.context_patch % config.anchor_stride:
            raise ValueError(
                f"anchor_stride must divide context_patch, got {config.anchor_stride} and {config.context_patch}"
            )
        self.config = config
        dim = config.dim
        self.context = ContextEmbedding(dim, feature_dim, config.context_patch)
        self.anchor_position = PositionEmbedding(dim)
        self.anchor_color = nn.Linear(3, dim)
        self.context_photo = PhotoFeatureEmbedding(dim, photo_dims) if config.photo_features else None
        self.anchor_photo = PhotoFeatureEmbedding(dim, photo_dims) if config.photo_features else None
        self.group_tokens = nn.Parameter(torch.randn(config.num_groups, dim) * 0.5)
        self.anchor_decoder = CrossAttentionDecoder(dim, config.anchor_layers, config.num_heads)
        self.group_decoder = CrossAttentionDecoder(
            dim, config.group_layers, config.num_heads, self_attention=True
        )
        self.anchor_key = nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim, elementwise_affine=False))
        self.group_key = nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim, elementwise_affine=False))
        self.log_temperature = nn.Parameter(torch.tensor(config.assignment_temperature).log())
        self.gaussian_head = GaussianHead(
            dim,
            config.gaussians_per_anchor,
            config.sh_degree,
            config.offset_bound,
            config.scale_bound,
            config.offset_unit,
        )
        self.semantic_head = (
            SemanticHead(dim, config.semantic_dim, config.residual_dim, config.group_embeddings)
            if config.semantic_dim
            else None
        )

    def forward(
        self, images: Float[Tensor, "B V 3 H W"], geometry: FrozenGeometry, first_anchor: int | None = None
    ) -> TokenGroupsOutput:
        """Decode token groups; H and W are multiples of the context patch.

        `first_anchor` is the candidate that the farthest-point sampling starts from (modulo their number).
        """
        scale = mean_distance(geometry.points.flatten(1, 3), torch.isfinite(geometry.depth).flatten(1))
        candidates = self._candidates(images, geometry)
        chosen = self._sample(candidates.points, self.config.anchors_of(images.shape[1]), first_anchor)
        anchors = _take(candidates.points, chosen)
        colors = _take(candidates.patches, chosen)
        colors = rearrange(colors, "b k (c p) -> b k c p", c=3).mean(dim=-1)
        context = self.context(images, geometry, scale)
        if self.context_photo is not None:
            context = context + self.context_photo(
                geometry.photo_features, geometry.cameras.size_hw, self.config.context_patch
            )
        queries = _take(context, candidates.context_index[chosen])
        queries = (
            queries + self.anchor_position(anchors / scale[:, None, None]) + self.anchor_color(colors - 0.5)
        )
        if self.anchor_photo is not None:
            seen = self.anchor_photo(geometry.photo_features, geometry.cameras.size_hw, candidates.stride)
            queries = queries + _take(seen, chosen)
        anchor_tokens = self.anchor_decoder(queries, context)
        group_tokens = self.group_decoder(self.group_tokens.expand(images.shape[0], -1, -1), anchor_tokens)
        anchor_keys = self.anchor_key(anchor_tokens).float()
        assignment = self._assign(anchor_keys, group_tokens)
        pixels_per_anchor = self._pixels_per_anchor(images.shape[3] * images.shape[4])
        footprints = _take(candidates.footprints[..., None], chosen).squeeze(-1) * pixels_per_anchor
        return TokenGroupsOutput(
            gaussians=self.gaussian_head(anchor_tokens, anchors, footprints, colors),
            anchor_ids=self._anchor_ids(chosen.shape[1], images.device),
            anchors=anchors,
            anchor_pixels=candidates.pixels[chosen],
            anchor_keys=anchor_keys,
            assignment=assignment,
            group_tokens=group_tokens.float(),
            semantics=self.semantic_head and self.semantic_head(group_tokens, anchor_tokens, assignment),
        )

    def _candidates(self, images: Tensor, geometry: FrozenGeometry) -> AnchorCandidates:
        config = self.config
        size_hw = (images.shape[-2], images.shape[-1])
        views = images.shape[1]
        stride = candidate_stride(views, size_hw, config.anchor_stride, config.anchors_of(views))
        return anchor_candidates(images, geometry, stride, config.context_patch)

    def _sample(
        self, points: Float[Tensor, "B M 3"], count: int, first_anchor: int | None
    ) -> Int64[Tensor, "B K"]:
        if first_anchor is not None:
            first_anchor %= points.shape[1]
        return farthest_point_sampling(points, count, first_anchor)

    def _pixels_per_anchor(self, num_pixels: int) -> float:
        """Side of the square of photo pixels that an anchor stands for.

        The same for any number of photos: more of them have more anchors, or overlap.
        """
        return (self.config.footprint_views * num_pixels / self.config.num_anchors) ** 0.5

    def _anchor_ids(self, count: int, device: torch.device) -> Int64[Tensor, " N"]:
        ids = torch.arange(count, device=device)
        return ids.repeat_interleave(self.config.gaussians_per_anchor)

    def _assign(
        self, anchor_keys: Float[Tensor, "B K D"], group_tokens: Float[Tensor, "B L D"]
    ) -> Float[Tensor, "B K L"]:
        """Softmax over groups of scaled dot products: groups compete for every anchor."""
        group_keys = self.group_key(group_tokens).float()
        logits = torch.einsum("bkd,bld->bkl", anchor_keys, group_keys) / self.config.dim**0.5
        return (self.log_temperature.exp() * logits).softmax(dim=-1)


def _take(values: Float[Tensor, "B M C"], index: Int64[Tensor, "B K"]) -> Float[Tensor, "B K C"]:
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))
