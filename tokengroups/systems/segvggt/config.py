"""Sizes of SegVGGT's query branch, whose defaults are the published ones, and what weights of the system record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from tokengroups.bounds import Between, Channels, ChannelsOrNone, Positive, Settings, Weight
from tokengroups.systems.cell_gaussians import CellGaussiansConfig
from tokengroups.systems.segvggt.class_names import SCANNET
from tokengroups.systems.segvggt.decode import DecodeConfig

Index = Annotated[int, Between(0, 255)]
Ratio = Annotated[float, Between(0, 64, open_low=True)]


@dataclass(frozen=True)
class QueryConfig(Settings):
    """Shape of the queries and their blocks; the second block is not in the paper, and off."""

    number: Annotated[int, Between(1, 10_000)] = 400
    layers: Annotated[tuple[Index, ...], Between(0, 256)] = ()  # of the trunk that queries read, in order; empty = all
    cross_mlp_ratio: Ratio = 4.0
    self_mlp_ratio: Ratio = 1.0
    layer_scale: Weight = 0.01  # initial
    std: Weight = 1e-6  # of the queries' start

    # sampled: queries share one learned vector, to which each adds the mask features of a patch of its own, chosen by
    # farthest-point sampling among these features. They are unit vectors then, beside a constant, and a query's mask
    # starts as the cells that are similar to its patch.
    start: Literal["learned", "sampled"] = "learned"
    # Which patches a query may read: those where the attention's own products (official option) or its present
    # mask (Cheng et al. 2022) exceed a probability of 0.4. Special tokens are always read.
    mask_attention: Literal["none", "products", "masks"] = "none"


@dataclass(frozen=True)
class SemanticHeadConfig(Settings):
    """Shape of the dense head and of the class MLP; the second block is not in the paper, and off."""

    class_hidden: Channels = 32
    channels: Annotated[tuple[Channels, ...], Between(0, 4)] = ()  # of the four maps; empty = those of the encoder
    features: ChannelsOrNone = 0  # of the fused maps, twice the width of the masks; 0 = those of the encoder

    stem: Annotated[tuple[Channels, ...], Between(0, 2)] = ()  # two convolutions on the photo, added to fine maps
    single_view_features: bool = False  # add an embedding of the single-view network's maps; needs a stem

    def __post_init__(self) -> None:
        """Reject sizes that do not fit together."""
        super().__post_init__()
        if len(self.channels) not in (0, 4) or len(self.stem) not in (0, 2):
            raise ValueError("channels must have four entries and stem two, or none")
        if self.features % 8 or any(width % 4 for width in self.channels):  # positions have four parts of equal width
            sizes = f"{self.features} and {list(self.channels)}"
            raise ValueError(f"head.features must be a multiple of 8, head.channels multiples of 4, got {sizes}")
        if self.single_view_features and not self.stem:
            raise ValueError("single_view_features needs a stem")


@dataclass(frozen=True)
class OpenHeadConfig(Settings):
    """Shape of the open class head, which is not in the paper, and off."""

    # beside: the closed head still matches, scores and names. instead: there is no closed head.
    use: Literal["none", "beside", "instead"] = "none"
    hidden: Channels = 128
    text_dim: ChannelsOrNone = 0  # channels of the text encoder, which a training sets


@dataclass(frozen=True)
class SegVGGTConfig(Settings):
    """Everything that shapes the query branch, beside the encoder's sizes."""

    num_classes: Annotated[int, Between(1, 10_000)] = 18  # without "no object"
    queries: QueryConfig = field(default_factory=QueryConfig)
    head: SemanticHeadConfig = field(default_factory=SemanticHeadConfig)
    open_head: OpenHeadConfig = field(default_factory=OpenHeadConfig)
    lora_rank: Annotated[int, Between(0, 4096)] = 32  # 0 = the trunk is left as it is
    lora_alpha: Positive = 32.0  # in no file; 32 is what a configuration said that matches the published weights


@dataclass(frozen=True)
class SegVGGTModelConfig(Settings):
    """Shape of the network, names of its classes, and what turns its answer into groups and Gaussians."""

    network: SegVGGTConfig = field(default_factory=SegVGGTConfig)
    class_names: tuple[str, ...] = SCANNET  # one for each class
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    gaussians: CellGaussiansConfig = field(default_factory=CellGaussiansConfig)
    text_encoder: str = ""  # name of the open head's text encoder, which a training sets

    def __post_init__(self) -> None:
        """Refuse names that do not fit the network."""
        super().__post_init__()
        if len(self.class_names) != self.network.num_classes:
            raise ValueError(f"class_names must be {self.network.num_classes} names, got {len(self.class_names)}")
        if len(set(self.class_names)) < len(self.class_names) or not all(map(str.strip, self.class_names)):
            raise ValueError("class_names must all differ and not be empty")
