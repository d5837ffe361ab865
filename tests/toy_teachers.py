"""Text encoders and teachers that need no weights."""

from __future__ import annotations

import torch
from torch.nn import functional


class Letters:
    """A text encoder that counts letters, and an image teacher that averages colours."""

    name, dim = "letters:1", 6

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        counts = torch.tensor([[1.0 + text.count(letter) for letter in "aeiolr"] for text in texts])
        return functional.normalize(counts, dim=-1)

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        colours = functional.adaptive_avg_pool2d(images, 4)
        return functional.normalize(torch.cat([colours, 1 - colours], dim=1), dim=1)


class Words:
    """A text encoder that is no image teacher."""

    name, dim = "words:1", 6
    encode_text = Letters.encode_text


class Colours:
    """A dense image encoder: every block of four pixels has its colour, and texts name colours; others are grey."""

    name, dim, logit_scale = "toy_teachers:Colours:1", 3, 20.0

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        axes = dict(zip(("red", "green", "blue"), torch.eye(3), strict=True))
        rows = [axes.get(text, torch.ones(3)) for text in texts]
        return functional.normalize(torch.stack(rows) if rows else torch.zeros(0, 3), dim=-1)

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        return functional.normalize(functional.avg_pool2d(images, 4), dim=1)
