"""Sizes of IGGT's instance branch; the defaults are the published ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tokengroups.bounds import Between, Settings, Share

Size = Annotated[int, Between(1, 1024)]


@dataclass(frozen=True)
class InstanceHeadConfig(Settings):
    """Everything that shapes the part adaptor and the part head, beside the encoder's sizes."""

    # released: attention to point maps at three levels, then a DPT cascade, as the published weights want it.
    # paper: residual shifted-window attention at every level, whose maps are concatenated (equation 3).
    layout: Literal["released", "paper"] = "released"
    # The released code cuts a channel-first map with a channel-last routine, so that query windows mix channels and
    # rows. The published weights were trained with it.
    legacy_query_layout: bool = True
    fusion: bool = (
        True  # attention to the point head's maps; without it the field knows of geometry by the encoder alone
    )
    feature_dim: Size = 8  # of the instance field
    window: Size = 8  # side of the attention windows, in cells
    overlap: Share = 0.5  # by which windows of keys and values are wider than those of queries
    heads: Size = 8  # of the attention to the coarsest map
    window_heads: Size = 4

    def __post_init__(self) -> None:
        """Reject sizes that do not fit together."""
        super().__post_init__()
        if round(self.overlap * self.window) % 2:
            raise ValueError(f"overlap times window must be an even number of cells, got {self.overlap * self.window}")

    @property
    def key_window(self) -> int:
        """Side of the windows of keys and values, in cells."""
        return self.window + round(self.overlap * self.window)
