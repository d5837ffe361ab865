"""The system of the shipped instance field: a small head on a frozen encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from tokengroups.encoders import Encoder, Geometry, load_encoder
from tokengroups.encoders.base import SINGLE_VIEW_FEATURES
from tokengroups.errors import UserError
from tokengroups.losses.instance_field import InstanceFieldLossConfig
from tokengroups.postprocess import Step, StepSpec, build_steps
from tokengroups.systems.cell_gaussians import CellGaussiansConfig
from tokengroups.systems.iggt.clustering import ClusteringConfig
from tokengroups.systems.iggt.system import InstanceFieldSystem
from tokengroups.systems.iggt_tiny.head import TinyInstanceHead, TinyInstanceHeadConfig


@dataclass(frozen=True)
class IGGTTinyConfig:
    """Shape of the head, and what turns its field into groups and Gaussians."""

    head: TinyInstanceHeadConfig = field(default_factory=TinyInstanceHeadConfig)
    clustering: ClusteringConfig = field(default_factory=ClusteringConfig)
    gaussians: CellGaussiansConfig = field(default_factory=CellGaussiansConfig)


@dataclass(frozen=True)
class IGGTTinySettings:
    """The keys of a configuration with ``task: iggt_tiny``, beside ``training`` and ``data``."""

    encoder: str = "vggt_tiny"  # shipped name, weight folder, VGGT-1B (file, folder or hub id), or module:Class
    model: IGGTTinyConfig = field(default_factory=IGGTTinyConfig)
    losses: InstanceFieldLossConfig = field(default_factory=InstanceFieldLossConfig)
    postprocess: tuple[StepSpec, ...] = ()


class IGGTTiny(InstanceFieldSystem):
    """An instance field on any encoder; only the head is trained."""

    network: TinyInstanceHead
    config_class = IGGTTinyConfig
    settings_class = IGGTTinySettings

    def __init__(self, encoder: Encoder, config: IGGTTinyConfig, steps: Sequence[Step] = ()) -> None:
        super().__init__(encoder, steps)
        self.config, self.clustering, self.gaussians = config, config.clustering, config.gaussians
        dims = encoder.evidence_dims.get(SINGLE_VIEW_FEATURES, ())
        self.network = TinyInstanceHead(config.head, encoder.patch_size, encoder.feature_dim, dims)

    @classmethod
    def for_training(cls, settings: IGGTTinySettings) -> IGGTTiny:
        """Build the system with its objective; raises UserError for an encoder that does not fit."""
        try:
            steps = build_steps(settings.postprocess, "postprocess")
            system = cls(load_encoder(settings.encoder), settings.model, steps)
        except ValueError as error:
            raise UserError(f"{settings.encoder} does not fit the model: {error}") from None
        system.encoder_source, system.loss_config = settings.encoder, settings.losses
        return system

    def field(self, images: Float[Tensor, "B V 3 H W"], geometry: Geometry) -> Float[Tensor, "B V E h w"]:
        """Instance field of the photos, eight cells a patch and side."""
        return self.network(images, geometry)
