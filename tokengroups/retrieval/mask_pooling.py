"""Embeddings of groups from a dense image encoder: the mean feature of a group's pixels (IGGT, Li et al. 2026, 3.4).

The authors publish no code. Here the features of the pixels are of unit length, and their mean over all photos
together, in which every pixel counts the same, is made of unit length again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from tokengroups.postprocess import Reconstruction
from tokengroups.scene import render_views
from tokengroups.scene.groups import columns_of
from tokengroups.text import DenseEncoder
from tokengroups.text.dense import pixel_features
from tokengroups.types import Semantics, TokenScene

# What a text is compared with where an encoder knows no probability (LERF, Kerr et al., ICCV 2023, section 3.4).
NEUTRAL_TEXTS = ("object", "things", "stuff", "texture")
_NO_DIRECTION = 1e-6  # a mean of unit features that is shorter than this has none
_ROWS = 16384  # features that are weighted at once


def pool_masks(
    features: Iterable[Float[Tensor, "D h w"]], labels: Iterable[Int64[Tensor, "H W"]], count: int
) -> Float[Tensor, "L D"]:
    """Mean feature of every mask over all photos, one photo in memory at a time.

    Args:
        features: Of every photo, at any resolution: a pixel has the feature of the cell that its centre lies in. Their
            length does not matter.
        labels: Mask of every pixel, from 0 to `count` - 1; negative = none.
        count: Number of masks.

    Returns:
        Unit vectors; zero for masks without a pixel.

    Example:
        >>> import torch
        >>> from tokengroups.retrieval import pool_masks
        >>> cells = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])  # two cells, left and right
        >>> labels = torch.tensor([[0, 0, 0, 1], [0, 0, -1, 1]])  # mask 0: four pixels left, one right
        >>> pool_masks([cells], [labels], count=3)
        tensor([[0.97, 0.24], [0.00, 1.00], [0.00, 0.00]])
    """
    sums = sizes = None
    for cells, mask in zip(features, labels, strict=True):
        if sums is None or sizes is None:
            sums = torch.zeros(count, len(cells), dtype=torch.float64, device=cells.device)
            sizes = torch.zeros(count, dtype=torch.float64, device=cells.device)
        _add_photo(sums, sizes, cells, mask.to(cells.device))
    if sums is None or sizes is None:
        raise ValueError("no photo to take features from")
    pooled = functional.normalize(sums, dim=1)
    return pooled.masked_fill(sums.norm(dim=1, keepdim=True) <= _NO_DIRECTION * sizes[:, None], 0).float()


def _add_photo(
    sums: Float[Tensor, "L D"], sizes: Float[Tensor, " L"], cells: Float[Tensor, "D h w"], mask: Int64[Tensor, "H W"]
) -> None:
    """Add the unit features of one photo's pixels to the sums of their masks, and count the pixels."""
    height, width = mask.shape
    rows, columns = (
        ((torch.arange(pixels, device=mask.device) + 0.5) * (side / pixels)).long().clamp(max=side - 1)
        for pixels, side in ((height, cells.shape[1]), (width, cells.shape[2]))
    )
    cell = rows[:, None] * cells.shape[2] + columns
    inside = mask >= 0
    number = cells.shape[1] * cells.shape[2]
    # Pixels of one mask in one cell have the same feature, so only pairs of the two are added.
    pairs, weights = (mask[inside] * number + cell[inside]).unique(return_counts=True)
    sizes.index_add_(0, pairs // number, weights.double())
    flat = rearrange(cells, "d h w -> (h w) d")
    for some, weight in zip(pairs.split(_ROWS), weights.split(_ROWS), strict=True):
        unit = functional.normalize(flat[some % number].double(), dim=1)
        sums.index_add_(0, some // number, unit * weight[:, None])


def embed_groups(
    scene: TokenScene,
    photos: Iterable[Float[Tensor, "3 H W"]],
    encoder: DenseEncoder,
    group_maps: Iterable[Int64[Tensor, "H W"]] | None = None,
    masks: Iterable[Bool[Tensor, "H W"]] | None = None,
) -> TokenScene:
    """Give a scene semantics from its photos; earlier ones are replaced.

    Args:
        scene: The scene, unedited: an object that was moved is not where the photos show it.
        photos: The photo of every context view, in [0, 1].
        encoder: Encoder of pixels and texts.
        group_maps: Group ids of the photos' pixels; others are no group. None = the groups that a rendering shows.
        masks: Pixels of the photos that count; None = all.

    Raises:
        UserError: The encoder returns something else than features.
        ValueError: There is not one photo for every context view.

    Example:
        >>> import torch
        >>> import tokengroups as tg
        >>> from tokengroups.retrieval import embed_groups
        >>> class Colours:
        ...     name, dim, logit_scale = "colours:1", 3, 20.0
        ...
        ...     def encode_text(self, texts):
        ...         return torch.eye(3)[[len(text) % 3 for text in texts]]  # "red", "blue", "green"
        ...
        ...     def encode_images(self, images):
        ...         return images
        >>> scene = tg.example_scene()
        >>> photos = [view.color.permute(2, 0, 1) for view in tg.render_views(scene, scene.cameras)]
        >>> embed_groups(scene, photos, Colours()).semantics.embeddings.argmax(dim=1)  # of floor, box and ball
        tensor([0, 0, 2])
    """
    if group_maps is None:
        group_maps = (view.group_map for view in render_views(scene, scene.cameras))
    if masks is not None:
        group_maps = (torch.where(mask.to(each.device), each, -1) for each, mask in zip(group_maps, masks, strict=True))
    labels = (columns_of(scene, each) for each in group_maps)
    features = (pixel_features(encoder, photo) for photo in photos)
    embeddings = pool_masks(features, labels, len(scene.group_ids)).to(scene.anchors.device)
    semantics = Semantics(
        embeddings=embeddings,
        residuals=embeddings.new_zeros(len(scene.anchors), 0),
        projection=embeddings.new_zeros(embeddings.shape[1], 0),
        calibration=_calibration(encoder, embeddings),
        encoder=encoder.name,
    )
    return replace(scene, semantics=semantics)


def embed_reconstruction(
    made: Reconstruction, photos: Float[Tensor, "V 3 H W"], encoder: DenseEncoder
) -> Reconstruction:
    """Give a reconstruction semantics from its photos: by its own masks of them, else by what a rendering shows.

    Raises:
        UserError: As in `embed_groups`.
    """
    maps = None if made.photo_groups is None else made.photo_groups.labels
    return replace(made, scene=embed_groups(made.scene, photos, encoder, maps, made.mask))


def _calibration(encoder: DenseEncoder, embeddings: Float[Tensor, "L D"]) -> Float[Tensor, "2"]:
    """Probability of a text against the best neutral one: the encoder's slope, and that one's mean cosine."""
    neutral = encoder.encode_text(list(NEUTRAL_TEXTS)).to(embeddings)
    known = embeddings[(embeddings != 0).any(dim=1)]
    threshold = (known @ neutral.T).amax(dim=1).mean() if len(known) else embeddings.new_zeros(())
    return torch.stack([threshold.new_tensor(encoder.logit_scale), threshold])
