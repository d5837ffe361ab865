"""Instance fields for tests: published weights at small sizes, and a field that is the photos' colours."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from tokengroups.encoders import load_encoder
from tokengroups.encoders.vggt import VGGT, VGGTConfig
from tokengroups.postprocess import Step
from tokengroups.systems import save_system
from tokengroups.systems.cell_gaussians import CellGaussiansConfig
from tokengroups.systems.iggt.clustering import ClusteringConfig
from tokengroups.systems.iggt.iggt import IGGT, IGGTConfig
from tokengroups.systems.iggt.system import InstanceFieldSystem

SIZES = VGGTConfig(
    patch_size=14, image_size=56, embed_dim=16, num_heads=2, dino_depth=1, depth=4, camera_depth=1, camera_heads=2,
    camera_iterations=1, dpt_layers=(0, 1, 2, 3), dpt_channels=(4, 4, 4, 4), dpt_features=16, dpt_hidden=4,
)  # fmt: skip


def published_state() -> dict[str, Tensor]:
    """A state dict with the published names, at small sizes: VGGT's and the branch's, under a wrapper's prefix."""
    torch.manual_seed(2)
    encoder = VGGT(replace(SIZES, enable_point=False))
    system = IGGT(encoder, IGGTConfig())
    state = {**encoder.state_dict(), **system.branch.state_dict(), "track_head.tracker.norm.weight": torch.ones(3)}
    return {f"module.{name}": tensor for name, tensor in state.items()}


@dataclass(frozen=True)
class ColorFieldConfig:
    clustering: ClusteringConfig = field(default_factory=ClusteringConfig)
    gaussians: CellGaussiansConfig = field(default_factory=CellGaussiansConfig)


class ColorField(InstanceFieldSystem):
    """Instances are the colours of the photos: what comes out is known."""

    config_class = ColorFieldConfig

    def __init__(self, encoder, config: ColorFieldConfig, steps: tuple[Step, ...] = ()) -> None:
        super().__init__(encoder, steps)
        self.config, self.clustering, self.gaussians = config, config.clustering, config.gaussians
        self.network = nn.Linear(1, 1)  # something to save

    def field(self, images: Tensor, geometry) -> Tensor:
        del geometry
        return images - 0.5


def save_color_field(folder: Path, **changes: object) -> Path:
    """Weights of a `ColorField` on the shipped encoder."""
    system = ColorField(load_encoder("vggt_tiny"), ColorFieldConfig(**changes))
    save_system(folder, system.network.state_dict(), system, system.config, "vggt_tiny")
    return folder
