"""The tokens that the heads read: those of some layers of the trunk."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


class KeptTokens:
    """Outputs of the frame and global blocks of some layers, side by side.

    Without gradients each is written to its place at once, so that nothing is held twice.
    """

    def __init__(self, layers: Sequence[int]) -> None:
        self.layers = layers
        self.parts: dict[tuple[int, int], Float[Tensor, "B V P C"]] = {}
        self.whole: Float[Tensor, "B V P _"] | None = None

    def add(self, index: int, half: int, tokens: Float[Tensor, "B V P C"]) -> None:
        """Keep the tokens after the frame block (half 0) or the global block (half 1) of a layer, if it is kept."""
        if index not in self.layers:
            return
        if torch.is_grad_enabled():
            self.parts[index, half] = tokens
            return
        width = tokens.shape[-1]
        if self.whole is None:
            self.whole = tokens.new_empty(*tokens.shape[:-1], 2 * len(self.layers) * width)
        for place, layer in enumerate(self.layers):
            if layer == index:
                self.whole.narrow(-1, (2 * place + half) * width, width).copy_(tokens)

    def joined(self) -> Float[Tensor, "B V P _"]:
        """All of them, in the order of `layers`."""
        if self.whole is not None:
            return self.whole
        return torch.cat([self.parts[index, half] for index in self.layers for half in (0, 1)], dim=-1)
