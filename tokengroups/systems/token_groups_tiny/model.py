"""The token-group model with additions that a tiny encoder needs."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from tokengroups.bounds import Share
from tokengroups.encoders import Geometry
from tokengroups.encoders.base import SINGLE_VIEW_FEATURES
from tokengroups.nn.single_view_embedding import SingleViewEmbedding
from tokengroups.systems.token_groups.anchors import Anchors, take
from tokengroups.systems.token_groups.config import TokenGroupsConfig
from tokengroups.systems.token_groups.model import TokenGroupModel


@dataclass(frozen=True)
class TokenGroupsTinyConfig(TokenGroupsConfig):
    """Shape of the decoders; the last two fields are additions to the paper's."""

    anchor_growth: Share = 0.0  # num_anchors is multiplied by (views / covered_views) to this power
    single_view_features: bool = False  # add an embedding of the single-view network's maps

    def anchors_for(self, num_views: int) -> int:
        """Number of anchors of a scene of so many photos."""
        return round(self.num_anchors * max(1.0, num_views / self.covered_views) ** self.anchor_growth)


class TokenGroupTinyModel(TokenGroupModel):
    """Token groups whose context tokens and anchor queries read single-view features, and queries the photo's colour.

    Args:
        config: Shape.
        feature_dim: Channels of the encoder's patch features.
        single_view_dims: Channels of its single-view feature maps; they are read if the configuration says so.

    Raises:
        ValueError: The configuration asks for single-view features and there are none.
    """

    config: TokenGroupsTinyConfig

    def __init__(self, config: TokenGroupsTinyConfig, feature_dim: int, single_view_dims: tuple[int, ...] = ()) -> None:
        self.single_view_dims = single_view_dims
        super().__init__(config, feature_dim)

    def _build_more(self, config: TokenGroupsTinyConfig) -> None:
        dim, dims, wanted = config.dim, self.single_view_dims, config.single_view_features
        self.anchor_color = nn.Linear(3, dim)
        self.context_single_view = SingleViewEmbedding(dim, dims) if wanted else None
        self.anchor_single_view = SingleViewEmbedding(dim, dims) if wanted else None

    def embed_context(
        self, images: Float[Tensor, "B V 3 H W"], geometry: Geometry, scale: Float[Tensor, " B"]
    ) -> Float[Tensor, "B M D"]:
        """Context tokens X, with single-view features."""
        context = super().embed_context(images, geometry, scale)
        if self.context_single_view is None:
            return context
        size_hw = geometry.cameras.size_hw
        return context + self.context_single_view(_maps(geometry), size_hw, self.config.context_patch)

    def anchor_queries(
        self, context: Float[Tensor, "B M D"], anchors: Anchors, geometry: Geometry, scale: Float[Tensor, " B"]
    ) -> Float[Tensor, "B K D"]:
        """A^(0), with the photo's colour and single-view features."""
        queries = super().anchor_queries(context, anchors, geometry, scale)
        queries = queries + self.anchor_color(anchors.colors - 0.5)
        if self.anchor_single_view is None:
            return queries
        cells = self.anchor_single_view(_maps(geometry), geometry.cameras.size_hw, anchors.stride)
        return queries + take(cells, anchors.candidate_index)


def _maps(geometry: Geometry) -> tuple[Tensor, ...]:
    maps = geometry.evidence[SINGLE_VIEW_FEATURES]
    assert isinstance(maps, tuple)
    return maps
