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
