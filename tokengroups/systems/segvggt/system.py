"""SegVGGT (Qu et al., ECCV 2026) as a system: photos in, scenes whose groups are named instances out."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from tokengroups.bounds import Settings, Weight
from tokengroups.data.example import Example
from tokengroups.encoders import Encoder, Geometry
from tokengroups.encoders.vggt import VGGT, VGGTConfig
from tokengroups.encoders.weights import freeze_unused, load_vggt, save_encoder
from tokengroups.errors import UserError
from tokengroups.losses.encoder import TeacherLossWeights, teacher_losses
from tokengroups.losses.query_masks import QueryLossConfig, QueryPredictions, query_losses
from tokengroups.losses.query_targets import InstanceTargets, instance_targets
from tokengroups.losses.terms import LossTerms
from tokengroups.nn.parameter_groups import decay_groups
from tokengroups.nn.precision import Precision, autocast
from tokengroups.postprocess import Draft, PhotoGroups, Step, StepSpec, build_steps
from tokengroups.systems.base import SceneSystem
from tokengroups.systems.cell_gaussians import CellGaussiansConfig, cell_prediction, place_gaussians
from tokengroups.systems.segvggt.class_names import PUBLISHED, SCANNET
from tokengroups.systems.segvggt.config import SegVGGTConfig
from tokengroups.systems.segvggt.decode import DecodeConfig, QueryInstances, exclusive_instances, photo_groups
from tokengroups.systems.segvggt.lora import LoRALinear, merged_state
from tokengroups.systems.segvggt.network import SegVGGTNetwork, SegVGGTOutput
from tokengroups.systems.segvggt.published import LICENCE, is_published, load_network
from tokengroups.systems.segvggt.queries import Reading
from tokengroups.systems.weights import save_system

__all__ = ["SegVGGT", "SegVGGTModelConfig", "SegVGGTSettings", "is_published", "load_published"]

QUERIES, FEATURES, LOGITS = "instance_queries", "instance_features", "instance_class_logits"  # in a geometry's evidence
BRANCH, ENCODER = "branch.", "encoder."
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SegVGGTModelConfig(Settings):
    """Shape of the network, names of its classes, and what turns its answer into groups and Gaussians."""

    network: SegVGGTConfig = field(default_factory=SegVGGTConfig)
    class_names: tuple[str, ...] = SCANNET  # one for each class
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    gaussians: CellGaussiansConfig = field(default_factory=CellGaussiansConfig)

    def __post_init__(self) -> None:
        """Refuse names that do not fit the network."""
        super().__post_init__()
        if len(self.class_names) != self.network.num_classes:
            raise ValueError(f"class_names must be {self.network.num_classes} names, got {len(self.class_names)}")


@dataclass(frozen=True)
class SegVGGTSettings(Settings):
    """The keys of a configuration with ``task: segvggt``, beside ``training`` and ``data``."""

    encoder: str = "facebook/VGGT-1B"  # a VGGT to start from: shipped name, weight folder, file or hub id
    # What is trained of it: LoRA and all but the patch embedding and the adapted layers (the paper), LoRA, nothing.
    trunk: Literal["paper", "lora", "frozen"] = "paper"
    trunk_lr_scale: Weight = 0.3  # of what the encoder had before; 6e-5 beside 2e-4 [T-P]
    lora_lr_scale: Weight = 1.0  # [?] which of the two rates LoRA has
    model: SegVGGTModelConfig = field(default_factory=SegVGGTModelConfig)
    losses: QueryLossConfig = field(default_factory=QueryLossConfig)
    geometry: Weight = 1.0  # of VGGT's losses against the encoder as it was, if any of it is trained
    teacher: TeacherLossWeights = field(default_factory=TeacherLossWeights)
    postprocess: tuple[StepSpec, ...] = ()


class SavedParts(nn.Module):
    """What weights of the system hold: the query branch, and LoRA's factors."""

    def __init__(self, joint: SegVGGTNetwork) -> None:
        super().__init__()
        self.branch = joint.branch
        self.lora = nn.ModuleList(layer.lora for layer in joint.encoder.modules() if isinstance(layer, LoRALinear))


class SegVGGT(SceneSystem):
    """The system. Its encoder is a VGGT, or a relative, which it changes: it gets LoRA and loses its point head.

    Args:
        encoder: The VGGT.
        config: Shape.
        steps: Post-processing of ``postprocess="default"``.

    Raises:
        ValueError: Another encoder, or sizes that do not fit it.
    """

    config_class = SegVGGTModelConfig
    settings_class = SegVGGTSettings
    adjustable: ClassVar[Mapping[str, str]] = {
        "score": "decoding.score_threshold", "max_gaussians": "gaussians.max_gaussians",
    }  # fmt: skip

    def __init__(self, encoder: Encoder, config: SegVGGTModelConfig, steps: Sequence[Step] = ()) -> None:
        if not isinstance(encoder, VGGT):
            raise ValueError("instance queries read the layers of a VGGT")
        super().__init__(encoder, steps)
        self.config, self.decoding, self.gaussians = config, config.decode, config.gaussians
        self.joint = SegVGGTNetwork(encoder, config.network)
        self.network: nn.Module = SavedParts(self.joint)
        self.settings: SegVGGTSettings | None = None
        self.teacher: VGGT | None = None
        self.encoder_source = ""
        self.told = False  # that queries are too few

    @classmethod
    def for_training(cls, settings: SegVGGTSettings) -> SegVGGT:
        """Build network and objective; raises UserError for weights that do not fit."""
        config = settings.model
        if settings.trunk == "frozen" and config.network.lora_rank:
            config = replace(config, network=replace(config.network, lora_rank=0))
        try:
            encoder = load_vggt(settings.encoder)
            teacher = copy.deepcopy(encoder) if settings.trunk != "frozen" and settings.geometry else None
            system = cls(encoder, config, build_steps(settings.postprocess, "postprocess"))
        except ValueError as error:
            raise UserError(f"{settings.encoder} does not fit the model: {error}") from None
        system.encoder_source, system.settings, system.network = settings.encoder, settings, system.joint
        object.__setattr__(system, "teacher", None if teacher is None else teacher.requires_grad_(False).eval())
        system.thaw()
        return system

    def thaw(self) -> None:
        """Make what is trained of the encoder trainable."""
        assert self.settings is not None and isinstance(self.encoder, VGGT)
        if self.settings.trunk == "paper":
            freeze_unused(self.encoder.unfreeze())
            self.encoder.aggregator.patch_embed.requires_grad_(False)
        for layer in self.encoder.modules():
            if isinstance(layer, LoRALinear):
                layer.linear.requires_grad_(False)
                layer.lora.requires_grad_(True)

    def _encode(self, images: Tensor, intrinsics: Tensor | None = None) -> Geometry:
        """Geometry with masks and classes as evidence, in one pass."""
        self.joint.to(images.device)
        geometry, found = self.joint.encode(images, intrinsics)
        evidence = {QUERIES: found.queries, FEATURES: found.features, LOGITS: found.class_logits}
        return replace(geometry, evidence={**geometry.evidence, **evidence})

    @torch.no_grad()
    def segment(self, draft: Draft) -> PhotoGroups:
        """One label per pixel, with the classes' names."""
        labels, found, _ = self._instances(draft)
        return photo_groups(labels, found, self.config.class_names)

    def decode(self, draft: Draft) -> Draft:
        """Place a Gaussian on every cell; cells without an instance make one more group, without a name."""
        labels, found, tokens = self._instances(draft)
        cells = place_gaussians(draft, self.gaussians)
        own = labels[cells.pixels.unbind(-1)]
        count = len(found.scores)
        groups = photo_groups(labels, found, self.config.class_names)
        assignment = functional.one_hot(torch.where(own < 0, count, own), count + 1).float()
        tokens = torch.cat([tokens, tokens.new_zeros(1, tokens.shape[1])])
        prediction = cell_prediction(cells, assignment, tokens, groups)
        scores = torch.cat([found.scores, found.scores.new_zeros(1)])
        return replace(draft, prediction=replace(prediction, group_names=(*groups.names, ""), group_scores=scores))

    def _instances(self, draft: Draft) -> tuple[Int64[Tensor, "V H W"], QueryInstances, Float[Tensor, "M E"]]:
        """Labels, instances, and their projected queries."""
        queries, features, logits = (draft.geometry.evidence[name] for name in (QUERIES, FEATURES, LOGITS))
        assert isinstance(queries, Tensor) and isinstance(features, Tensor) and isinstance(logits, Tensor)
        height, width = draft.photos.shape[-2:]
        labels, found = exclusive_instances(queries, features, logits, (height, width), self.decoding)
        return labels, found, queries[found.queries].float()

    def losses(self, example: Example, step: int, precision: Precision) -> LossTerms:
        """The objective of the queries, and VGGT's against the encoder as it was."""
        del step
        assert self.settings is not None, "built without an objective; use for_training"
        config, images = self.settings.losses, example.context.images
        reading = Reading(states=config.deep_supervision > 0, frame_attention=config.attention > 0)
        with autocast(precision, images.device):
            output, found = self.network(images, reading)
        answer = query_losses(_predictions(found), self.targets(example, found.features.shape[2:4]), config)
        losses = answer.losses
        if answer.unmatched and not self.told:
            self.told = True
            few = self.config.network.queries.number
            _log.warning("scenes have more instances than the %d queries: the others are not learnt", few)
        if self.teacher is None:
            return losses
        self.teacher.to(images.device)
        with torch.no_grad(), autocast(precision, images.device):
            truth = self.teacher.encode(images)
        geometry = teacher_losses(output, truth, self.settings.teacher)
        total = losses.total + self.settings.geometry * geometry.total
        return LossTerms(total, {**losses.terms, "geometry": geometry.total, **geometry.terms})

    def targets(self, example: Example, size_hw: Sequence[int]) -> list[InstanceTargets]:
        """Instances of the photos of a batch; those of other classes are none."""
        assert self.settings is not None
        rows = {name: row for row, name in enumerate(self.config.class_names)}
        grid, config = (size_hw[0], size_hw[1]), self.settings.losses.targets
        known = [{key: rows[name] for key, name in classes.items() if name in rows} for classes in example.classes]
        return [
            instance_targets(ids, classes, grid, config)
            for ids, classes in zip(example.context.group_ids, known, strict=True)
        ]

    def train(self, mode: bool = True) -> SegVGGT:
        """Set the training mode; a frozen encoder stays in evaluation mode by itself."""
        nn.Module.train(self, mode)
        return self

    def parameter_groups(self, weight_decay: float, muon: bool) -> list[dict[str, Any]]:
        """Weight decay on matrices alone; a slower encoder."""
        del muon
        assert self.settings is not None and isinstance(self.encoder, VGGT)
        lora = nn.ModuleList(layer.lora for layer in self.encoder.modules() if isinstance(layer, LoRALinear))
        groups = decay_groups(self.joint.branch, weight_decay)
        groups += decay_groups(lora, weight_decay, self.settings.lora_lr_scale)
        adapted = {id(parameter) for parameter in lora.parameters()}
        for group in decay_groups(self.encoder, weight_decay, self.settings.trunk_lr_scale):
            rest = [parameter for parameter in group["params"] if id(parameter) not in adapted]
            groups += [{**group, "params": rest}] if rest else []
        return groups

    def export(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """Write a weight folder; an encoder of which more than LoRA was trained goes into its subfolder ``encoder``."""
        assert self.settings is not None and isinstance(self.encoder, VGGT)
        saved = {name: tensor for name, tensor in state.items() if name.startswith(BRANCH)}
        config = self.config
        encoder = {name.removeprefix(ENCODER): t for name, t in state.items() if name.startswith(ENCODER)}
        if self.settings.trunk == "paper":
            merged = merged_state(encoder, config.network.lora_alpha / max(config.network.lora_rank, 1))
            save_encoder(folder / "encoder", merged, self.encoder.config)
            config, self.encoder_source = replace(config, network=replace(config.network, lora_rank=0)), "encoder"
        else:
            paths = [name for name, layer in self.encoder.named_modules() if isinstance(layer, LoRALinear)]
            for number, path in enumerate(paths):
                for part in ("lora_A.weight", "lora_B.weight"):
                    saved[f"lora.{number}.{part}"] = encoder[f"{path}.lora.{part}"]
        save_system(folder, saved, self, config, self.encoder_source)


def load_published(
    source: str | Path, encoder: VGGTConfig | None = None, config: SegVGGTConfig | None = None
) -> SegVGGT:
    """Load the system with a published checkpoint, frozen; arguments and errors as for `load_network`."""
    network = load_network(source, encoder, config)
    sizes = network.config
    names = PUBLISHED.get(sizes.num_classes) or tuple(f"class {row}" for row in range(sizes.num_classes))
    with torch.device("meta"):
        system = SegVGGT(VGGT(network.encoder.config), SegVGGTModelConfig(sizes, names))
    system.encoder, system.joint, system.network = network.encoder, network, SavedParts(network)
    system.encoder_source, system.licence = str(source), LICENCE
    return system.eval()  # pyright: ignore[reportReturnType] # returns itself


def _predictions(found: SegVGGTOutput) -> QueryPredictions:
    return QueryPredictions(
        found.queries, found.features, found.class_logits, found.frame_attention, found.layer_queries,
        found.layer_class_logits,
    )  # fmt: skip
