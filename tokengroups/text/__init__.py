"""What words mean: text encoders, dense image teachers in the same space, and their cache on disk."""

from __future__ import annotations

from tokengroups.text.encoders import DEFAULT_TEXT_ENCODER, ImageTeacher, TextEncoder, load_text_encoder

__all__ = ["DEFAULT_TEXT_ENCODER", "ImageTeacher", "TextEncoder", "load_text_encoder"]
