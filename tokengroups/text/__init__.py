"""Text encoders, image teachers in the same space, and a cache of embeddings on disk."""

from __future__ import annotations

from tokengroups.text.encoders import ImageTeacher, TextEncoder, load_text_encoder

__all__ = ["ImageTeacher", "TextEncoder", "load_text_encoder"]
