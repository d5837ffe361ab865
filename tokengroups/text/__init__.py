"""Text encoders, image teachers in the same space, and a cache of embeddings on disk."""

from __future__ import annotations

from tokengroups.text.dense import DenseEncoder, load_dense_encoder
from tokengroups.text.encoders import DEFAULT_TEXT_ENCODER, ImageTeacher, TextEncoder, load_text_encoder

__all__ = [
    "DEFAULT_TEXT_ENCODER",
    "DenseEncoder",
    "ImageTeacher",
    "TextEncoder",
    "load_dense_encoder",
    "load_text_encoder",
]
