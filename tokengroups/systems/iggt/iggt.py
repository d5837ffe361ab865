"""IGGT (Li et al., ICLR 2026): VGGT with an instance branch, trained together or on a frozen encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from tokengroups.bounds import Settings, Weight
from tokengroups.data.example import Example
from tokengroups.encoders import Encoder, Geometry
from tokengroups.encoders.vggt import VGGT, VGGTOutput
from tokengroups.encoders.vggt.dense import predict_points
from tokengroups.encoders.weights import freeze_unused, load_vggt, save_encoder
from tokengroups.errors import UserError
from tokengroups.losses.encoder import EncoderLossWeights, encoder_losses
from tokengroups.losses.instance_field import InstanceFieldLossConfig, instance_field_loss
from tokengroups.losses.terms import LossTerms
from tokengroups.nn.parameter_groups import decay_groups
from tokengroups.nn.precision import Precision, autocast
from tokengroups.postprocess import Step, StepSpec, build_steps
from tokengroups.systems.cell_gaussians import CellGaussiansConfig
from tokengroups.systems.iggt.clustering import ClusteringConfig
from tokengroups.systems.iggt.config import InstanceHeadConfig
from tokengroups.systems.iggt.network import InstanceBranch, patch_layers
from tokengroups.systems.iggt.system import InstanceFieldSystem, at_cells

LAYERS = 4
ENCODER, BRANCH = "encoder.", "branch."
TRUNK = ("aggregator", "matching")  # the backbone; the encoder's other parts are geometry heads
# Parts of the published weights that no output depends on.
DEAD = ("part_head.norm", "part_head.projects", "part_head.resize_layers", "part_head.cross_attention_1")
# Parts of the point head that the field does not depend on.
POINTS_ALONE = {
    "released": (
        "projects.0", "resize_layers.0", "scratch.layer1_rn", "scratch.refinenet1", "scratch.output_conv",
    ),
    "paper": ("scratch.output_conv",),
}  # fmt: skip


@dataclass(frozen=True)
class IGGTConfig:
    """Shape of the branch, and what turns its field into groups and Gaussians."""

    head: InstanceHeadConfig = field(default_factory=InstanceHeadConfig)
    clustering: ClusteringConfig = field(default_factory=ClusteringConfig)
    gaussians: CellGaussiansConfig = field(default_factory=CellGaussiansConfig)


@dataclass(frozen=True)
class IGGTSettings(Settings):
    """The keys of a configuration with ``task: iggt``, beside ``training`` and ``data``."""

    encoder: str = "facebook/VGGT-1B"  # a VGGT to start from: shipped name, weight folder, file or hub id
    encoder_lr_scale: Weight = 0.1  # learning rate of the backbone over that of the heads; 0 = frozen encoder
    model: IGGTConfig = field(default_factory=IGGTConfig)
    losses: InstanceFieldLossConfig = field(default_factory=InstanceFieldLossConfig)
    geometry: Weight = 1.0  # weight of VGGT's losses beside the field's, if the encoder is trained
    geometry_terms: EncoderLossWeights = field(default_factory=EncoderLossWeights)
    postprocess: tuple[StepSpec, ...] = ()


class JointNetwork(nn.Module):
    """Encoder and branch in one forward pass, for training."""

    def __init__(self, encoder: VGGT, branch: InstanceBranch) -> None:
        super().__init__()
        self.encoder, self.branch = encoder, branch

    def forward(self, images: Float[Tensor, "B V 3 H W"]) -> tuple[VGGTOutput, Float[Tensor, "B V E H W"]]:
        """Raw geometry, the branch's points included, and the instance field."""
        output, size_hw = self.encoder(images), (images.shape[-2], images.shape[-1])
        assert output.features is not None
        maps = self.branch(patch_layers(output.features.flatten(0, 1), LAYERS), size_hw)
        assert maps.points is not None
        points, confidence = predict_points(maps.points.unflatten(0, images.shape[:2]))
        joined = replace(output, points=points, points_confidence=confidence)
        return joined, maps.field.unflatten(0, images.shape[:2])


class IGGT(InstanceFieldSystem):
    """The system; its encoder is a VGGT, whose point head belongs to the branch.

    Args:
        encoder: A VGGT, or one of its relatives with four kept layers.
        config: Shape.
        steps: Post-processing of ``postprocess="default"``.

    Raises:
        ValueError: Another encoder.
    """

    config_class = IGGTConfig
    settings_class = IGGTSettings

    def __init__(self, encoder: Encoder, config: IGGTConfig, steps: Sequence[Step] = ()) -> None:
        if not isinstance(encoder, VGGT):
            raise ValueError("the instance branch reads the layers of a VGGT")
        super().__init__(encoder, steps)
        self.config, self.clustering, self.gaussians = config, config.clustering, config.gaussians
        self.branch = InstanceBranch(encoder.config, config.head)
        if encoder.point_head is not None:
            if not next(self.branch.point_head.parameters()).is_meta:  # else saved weights are about to come
                self.branch.point_head.load_state_dict(encoder.point_head.state_dict())
            encoder.drop_point_head()
        self.network: nn.Module = self.branch
        self.settings: IGGTSettings | None = None

    @classmethod
    def for_training(cls, settings: IGGTSettings) -> IGGT:
        """Build encoder, branch and objective; raises UserError for weights that do not fit."""
        try:
            steps = build_steps(settings.postprocess, "postprocess")
            system = cls(load_vggt(settings.encoder), settings.model, steps)
        except ValueError as error:
            raise UserError(f"{settings.encoder} does not fit the model: {error}") from None
        system.encoder_source, system.loss_config, system.settings = settings.encoder, settings.losses, settings
        assert isinstance(system.encoder, VGGT)
        system.network = JointNetwork(system.encoder, system.branch)
        if settings.encoder_lr_scale > 0:
            freeze_unused(system.encoder.unfreeze())
        system.freeze_without_loss()
        return system

    def freeze_without_loss(self) -> None:
        """Freeze what no loss depends on: processes would wait for its gradients in vain."""
        for name, parameter in self.branch.named_parameters():
            if name.startswith(DEAD):
                parameter.requires_grad_(False)
        if self._trains_points():
            return
        head = self.config.head
        for name, parameter in self.branch.point_head.named_parameters():
            if not head.fusion or name.startswith(POINTS_ALONE[head.layout]):
                parameter.requires_grad_(False)

    def field(self, images: Float[Tensor, "B V 3 H W"], geometry: Geometry) -> Float[Tensor, "B V E H W"]:
        """Instance field at the photos' resolution."""
        layers = patch_layers(geometry.features.flatten(0, 1), LAYERS)
        size_hw = (images.shape[-2], images.shape[-1])
        return self.branch(layers, size_hw, with_points=False).field.unflatten(0, images.shape[:2])

    def losses(self, example: Example, step: int, precision: Precision) -> LossTerms:
        """The field's loss, and VGGT's where the encoder is trained."""
        del step
        assert self.settings is not None and self.loss_config is not None, "built without an objective"
        images = example.context.images
        with autocast(precision, images.device):
            output, instance_field = self.network(images)
        ids = at_cells(example.context.group_ids, instance_field)
        losses = instance_field_loss(instance_field.float(), ids, self.loss_config)
        if self.settings.encoder_lr_scale == 0 or self.settings.geometry == 0:
            return losses
        geometry = encoder_losses(output, example.context, self.settings.geometry_terms)
        total = losses.total + self.settings.geometry * geometry.total
        return LossTerms(total, {**losses.terms, "geometry": geometry.total, **geometry.terms})

    def train(self, mode: bool = True) -> IGGT:
        """Set the training mode; a frozen encoder stays in evaluation mode by itself."""
        nn.Module.train(self, mode)
        return self

    def parameter_groups(self, weight_decay: float, muon: bool) -> list[dict[str, Any]]:
        """Weight decay on matrices alone; a slower backbone."""
        del muon
        groups = decay_groups(self.branch, weight_decay)
        assert self.settings is not None and isinstance(self.encoder, VGGT)
        for name, part in self.encoder.named_children():
            groups += decay_groups(part, weight_decay, self.settings.encoder_lr_scale if name in TRUNK else 1.0)
        return groups

    def export(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """Write a weight folder; a trained encoder goes into its subfolder ``encoder``."""
        assert self.settings is not None and isinstance(self.encoder, VGGT)
        if self.settings.encoder_lr_scale > 0:
            save_encoder(folder / "encoder", _part(state, ENCODER), self.encoder.config)
            self.encoder_source = "encoder"
        super().export(folder, _part(state, BRANCH))

    def _trains_points(self) -> bool:
        settings = self.settings
        assert settings is not None
        return settings.encoder_lr_scale > 0 and settings.geometry * settings.geometry_terms.points > 0


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
