"""Dense image encoders: the features of a photo's pixels, in the space of a text encoder."""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.reading import shown
from tokengroups.text.encoders import ImageTeacher, TextEncoder, load_text_encoder


@runtime_checkable
class DenseEncoder(TextEncoder, ImageTeacher, Protocol):
    """An encoder of texts and of the pixels of photos, such as CLIP, SigLIP, LSeg or OpenSeg.

    Its map of features may be of any resolution; every pixel has the feature of the cell that it lies in. Texts are
    embedded with the prompt that the encoder was trained with. Your own is named ``package.module:Class``; its `name`
    begins with that, so that queries find it again::

        class Colours:
            name, dim, logit_scale = "my_colours:Colours:1", 3, 20.0

            def encode_text(self, texts):  # [n, dim], unit vectors
                return torch.stack([WORDS.get(text, torch.zeros(3)) for text in texts])

            def encode_images(self, images):  # [B, 3, H, W] in [0, 1] -> [B, dim, h, w]
                return normalize(images - images.mean(dim=1, keepdim=True), dim=1)
    """

    logit_scale: float  # factor of its cosines before a softmax over texts: 100 for CLIP


def load_dense_encoder(source: str) -> DenseEncoder:
    """Load a dense encoder by folder, hub id or ``package.module:Class``, which the user typed.

    Raises:
        UserError: As in `load_text_encoder`, or it encodes no images.
    """
    encoder = load_text_encoder(source)
    if not isinstance(encoder, DenseEncoder):
        raise UserError(f"'{shown(source)}' encodes no photos; give a folder or hub id of CLIP or SigLIP, or a class")
    scale = encoder.logit_scale
    if not (isinstance(scale, int | float) and math.isfinite(scale) and scale > 0):
        raise UserError(f"'{shown(source)}': its logit_scale is {shown(repr(scale))}; it must be a positive number")
    return encoder


def pixel_features(encoder: DenseEncoder, photo: Float[Tensor, "3 H W"]) -> Float[Tensor, "D h w"]:
    """Features of one photo's pixels, checked: an encoder may be the user's own.

    Raises:
        UserError: It returns something else than finite features of its own dimension.
    """
    with torch.no_grad():
        features = encoder.encode_images(photo[None])
    expected = isinstance(features, Tensor) and features.ndim == 4 and features.shape[:2] == (1, encoder.dim)
    if not expected or features.numel() == 0 or not bool(features.isfinite().all()):
        shape = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
        wanted = f"finite features of shape [1, {encoder.dim}, h, w]"
        raise UserError(f"the encoder '{shown(encoder.name)}' must return {wanted} for one photo, got {shape}")
    return features[0]
