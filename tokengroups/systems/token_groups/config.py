"""Shape of the token-group decoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tokengroups.bounds import Between, Channels, ChannelsOrNone, Layers, NumFrames, Positive, Settings, ShDegree, Small
from tokengroups.nn.gaussian_head import OffsetUnit, ScaleBound


@dataclass(frozen=True)
class TokenGroupsConfig(Settings):
    """Shape of the decoders; the defaults are the paper's full size, and ours where it says nothing.

    An anchor's spacing is the side of the square of photo pixels that it stands for, on a surface facing the camera.
    """

    context_patch: Small = 16  # pixels per side of a context token's patch
    anchor_stride: Small = 16  # pixels between anchor candidates; halved until they suffice
    num_anchors: Annotated[int, Between(1, 16_384)] = 1024  # K
    num_groups: Annotated[int, Between(1, 4096)] = 100  # L
    gaussians_per_anchor: Small = 32  # N_g
    dim: Channels = 512  # width of context, anchor and group tokens
    num_heads: Small = 8
    anchor_layers: Layers = 4
    group_layers: Layers = 6
    sh_degree: ShDegree = 0
    offset_bound: Positive = 2.0  # largest offset of a Gaussian from its anchor per axis
    offset_unit: OffsetUnit = "spacing"  # of its anchor; points = the point map's unit, as in the paper
    covered_views: NumFrames = 2  # views whose pixels the anchors are assumed to cover; sets their spacing
    scale_bound: ScaleBound = 0.8  # largest standard deviation, in anchor spacings
    assignment_temperature: Positive = 3.0  # initial factor of the scaled dot products
    semantic_dim: ChannelsOrNone = 0  # channels of the text encoder whose space the embeddings are in; 0 = no semantics
    residual_dim: ChannelsOrNone = 8  # of an anchor's semantic residual
    group_embeddings: bool = True  # False: semantics are in the residuals alone (the paper's Table 4)
    text_encoder: str = ""  # name of the text encoder

    def __post_init__(self) -> None:
        """Refuse an anchor stride that does not divide the context patch."""
        super().__post_init__()
        if self.context_patch % self.anchor_stride:
            raise ValueError(
                f"anchor_stride must divide context_patch, got {self.anchor_stride} and {self.context_patch}"
            )

    def anchors_for(self, num_views: int) -> int:
        """Number of anchors of a scene of so many photos."""
        del num_views
        return self.num_anchors

    def pixels_per_anchor(self, num_pixels: int) -> float:
        """Side of the square of photo pixels that an anchor stands for, independent of the number of photos."""
        return (self.covered_views * num_pixels / self.num_anchors) ** 0.5
