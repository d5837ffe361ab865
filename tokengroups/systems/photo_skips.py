"""Detail for dense heads: maps of the photo itself, and of single views, added to the fine maps of a DPT."""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from tokengroups.encoders.vggt.dpt_head import resize
from tokengroups.encoders.vggt_tiny.stem import StemStage
from tokengroups.nn.single_view_embedding import SingleViewEmbedding


class PhotoSkips(nn.Module):
    """Base of heads with a stem of two convolutions, whose maps are added to a DPT's finest and to its fused map."""

    def build_skips(
        self, stem: tuple[int, ...], coarse: int, fine: int, single_view_dims: tuple[int, ...] | None = None
    ) -> None:
        """Make the parts.

        Args:
            stem: Channels of the two convolutions.
            coarse: Channels of the finest map, four cells a patch.
            fine: Channels of the fused map, eight cells a patch.
            single_view_dims: Channels of single-view feature maps, whose embedding is added to the finest map; None:
                there is none.

        Raises:
            ValueError: Single-view features, and no maps.
        """
        self.stem = nn.ModuleList([StemStage(3, stem[0]), StemStage(stem[0], stem[1])])
        self.fine_skip = nn.Conv2d(stem[0], fine, kernel_size=1)
        self.coarse_skip = nn.Conv2d(stem[1], coarse, kernel_size=1)
        self.single_view = None if single_view_dims is None else SingleViewEmbedding(coarse, single_view_dims)

    def stem_maps(self, photos: Float[Tensor, "N 3 H W"]) -> tuple[Float[Tensor, "N _ _ _"], Float[Tensor, "N _ _ _"]]:
        """Maps of a half and a quarter of the photos' resolution; photos in [0, 1]."""
        fine = self.stem[0](4 * photos - 2)
        return fine, self.stem[1](fine)

    def add_coarse(
        self,
        x: Float[Tensor, "N D h w"],
        stem_map: Float[Tensor, "N _ _ _"],
        single_view: tuple[Float[Tensor, "N _ _ _"], ...],
        size_hw: tuple[int, int],
    ) -> Float[Tensor, "N D h w"]:
        """Add to the finest map the stem's second one, and the embedding of the single-view maps."""
        x = x + resize(self.coarse_skip(stem_map), (x.shape[-2], x.shape[-1]))
        if self.single_view is None:
            return x
        maps = tuple(each[None] for each in single_view)
        cells = self.single_view(maps, size_hw, size_hw[0] // x.shape[-2])
        return x + rearrange(cells, "1 (n h w) d -> n d h w", h=x.shape[-2], w=x.shape[-1])

    def add_fine(self, x: Float[Tensor, "N D h w"], stem_map: Float[Tensor, "N _ _ _"]) -> Float[Tensor, "N D h w"]:
        """Add the stem's first map to the fused map."""
        return x + resize(self.fine_skip(stem_map), (x.shape[-2], x.shape[-1]))
