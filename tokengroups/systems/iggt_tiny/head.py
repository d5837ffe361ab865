"""A small instance head for any encoder: a DPT on patch features, with skips from the photo and single views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from tokengroups.bounds import Between, Settings
from tokengroups.encoders import Geometry
from tokengroups.encoders.base import SINGLE_VIEW_FEATURES
from tokengroups.encoders.vggt import VGGTConfig
from tokengroups.encoders.vggt.dpt_head import DPTHead
from tokengroups.nn.blocks import init_transformer_weights
from tokengroups.systems.photo_skips import PhotoSkips

Width = Annotated[int, Between(1, 4096)]
LAYERS = 4  # equal parts of the patch features, which a DPT reads at four resolutions


@dataclass(frozen=True)
class TinyInstanceHeadConfig(Settings):
    """Shape of the head."""

    feature_dim: Width = 8  # of the instance field
    channels: tuple[Width, Width, Width, Width] = (48, 64, 96, 128)  # of the maps, fine to coarse
    features: Width = 48  # of the fused maps
    hidden: Width = 32  # before the output
    stem: tuple[Width, Width] = (24, 48)  # of two convolutions on the photo
    single_view_features: bool = True  # add an embedding of the single-view network's maps


class TinyInstanceHead(PhotoSkips):
    """Photos and an encoder's features to the instance field.

    Args:
        config: Shape.
        patch_size: Of the encoder, a power of two from 8 on.
        feature_dim: Channels of its patch features, a multiple of four.
        single_view_dims: Channels of its single-view feature maps; they are read if the configuration says so.

    Raises:
        ValueError: Another patch size, or the configuration asks for single-view features and there are none.
    """

    def __init__(
        self, config: TinyInstanceHeadConfig, patch_size: int, feature_dim: int, single_view_dims: tuple[int, ...] = ()
    ) -> None:
        super().__init__()
        if patch_size < 8 or patch_size & (patch_size - 1) or feature_dim % (2 * LAYERS):
            raise ValueError(f"needs patches of 8, 16, 32, ... pixels, got {patch_size}")
        sizes = VGGTConfig(
            patch_size=patch_size,
            image_size=patch_size,
            embed_dim=feature_dim // (2 * LAYERS),
            dpt_channels=config.channels,
            dpt_features=config.features,
            dpt_hidden=config.hidden,
        )
        self.dpt = DPTHead(sizes, config.feature_dim)
        self.dpt.num_special = 0  # features hold patches alone
        single_view = single_view_dims if config.single_view_features else None
        self.build_skips(config.stem, config.channels[0], config.features // 2, single_view)
        init_transformer_weights(self)

    def forward(self, images: Float[Tensor, "B V 3 H W"], geometry: Geometry) -> Float[Tensor, "B V E h w"]:
        """Instance field of half the photos' resolution for patches of 16 pixels: eight cells a patch and side.

        Args:
            images: Photos in [0, 1].
            geometry: The encoder's answer for them.
        """
        size_hw, photos = (images.shape[-2], images.shape[-1]), images.flatten(0, 1)
        features = geometry.features.flatten(0, 1)
        layers = rearrange(features, "n (l c) h w -> l n (h w) c", l=LAYERS).unbind(0)
        fine, coarse = self.stem_maps(photos)
        maps = self.dpt.layer_maps(layers, size_hw)
        maps[0] = self.add_coarse(maps[0], coarse, _single_view(geometry, self.single_view is not None), size_hw)
        fused = self.add_fine(self.dpt.scratch.output_conv1(self.dpt.scratch.fuse(maps)), fine)
        return self.dpt.scratch.output_conv2(fused).unflatten(0, images.shape[:2])


def _single_view(geometry: Geometry, wanted: bool) -> tuple[Float[Tensor, "N _ _ _"], ...]:
    maps = geometry.evidence[SINGLE_VIEW_FEATURES] if wanted else ()
    assert isinstance(maps, tuple)
    return tuple(each.flatten(0, 1) for each in maps)
