"""SegVGGT (Qu et al., ECCV 2026) as a system: photos in, scenes whose groups are named instances out."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from tokengroups.data.example import Example
from tokengroups.encoders import Encoder, Geometry
from tokengroups.encoders.vggt import VGGT, VGGTConfig
from tokengroups.encoders.weights import freeze_unused, load_vggt, place_encoder, save_encoder
from tokengroups.errors import UserError
from tokengroups.losses.terms import LossTerms
from tokengroups.nn.limits import unfilled
from tokengroups.nn.parameter_groups import decay_groups
from tokengroups.nn.precision import Precision
from tokengroups.postprocess import Draft, PhotoGroups, Step, build_steps
from tokengroups.systems.base import SceneSystem
from tokengroups.systems.cell_gaussians import cell_prediction, place_gaussians
from tokengroups.systems.segvggt.class_names import PUBLISHED
from tokengroups.systems.segvggt.config import SegVGGTConfig, SegVGGTModelConfig
from tokengroups.systems.segvggt.decode import QueryInstances, exclusive_instances, photo_groups
from tokengroups.systems.segvggt.lora import LoRALinear, merged_state
from tokengroups.systems.segvggt.network import SegVGGTNetwork
from tokengroups.systems.segvggt.objective import SegVGGTObjective, SegVGGTSettings, trained_model
from tokengroups.systems.segvggt.published import LICENCE, load_network
from tokengroups.systems.weights import save_system
from tokengroups.types import Semantics

__all__ = ["SegVGGT", "SegVGGTModelConfig", "SegVGGTSettings", "load_published"]

# In a geometry's evidence:
QUERIES, FEATURES, LOGITS = "instance_queries", "instance_features", "instance_class_logits"
EMBEDDINGS = "instance_text_embeddings"  # of networks with an open class head
BRANCH, ENCODER = "branch.", "encoder."


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
        self.text_encoder = config.text_encoder
        self.settings: SegVGGTSettings | None = None
        self.objective: SegVGGTObjective | None = None
        self.encoder_source = ""

    @classmethod
    def for_training(cls, settings: SegVGGTSettings) -> SegVGGT:
        """Build network and objective; raises UserError for weights that do not fit."""
        config, names = trained_model(settings)
        try:
            encoder = load_vggt(settings.encoder)
            teacher = copy.deepcopy(encoder) if settings.trunk != "frozen" and settings.geometry else None
            system = cls(encoder, config, build_steps(settings.postprocess, "postprocess"))
        except ValueError as error:
            raise UserError(f"{settings.encoder} does not fit the model: {error}") from None
        if names is not None and system.joint.branch.open_head is not None:
            system.joint.branch.open_head.names.copy_(names)
        system.encoder_source, system.settings, system.network = settings.encoder, settings, system.joint
        if settings.checkpoint_blocks:
            system.joint.recompute_blocks()
        system.objective = SegVGGTObjective(settings, config.class_names, teacher, encoder.config.patch_size)
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

    def _encode(self, images: Tensor, intrinsics: Tensor | None = None, full_images: Tensor | None = None) -> Geometry:
        """Geometry with masks and classes as evidence, in one pass."""
        place_encoder(self.encoder, images.device, lean=self.lean)
        self.joint.to(images.device)
        geometry, found = self.joint.encode(images, intrinsics, full_images)
        evidence = {QUERIES: found.queries, FEATURES: found.features, LOGITS: found.class_logits}
        if found.open_classes is not None:
            evidence[EMBEDDINGS] = found.open_classes.embeddings
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
        prediction = replace(prediction, group_names=(*groups.names, ""), group_scores=scores)
        return replace(draft, prediction=replace(prediction, semantics=self._semantics(draft, found, len(own))))

    def _semantics(self, draft: Draft, found: QueryInstances, anchors: int) -> Semantics | None:
        """Text embeddings of the groups, of which the last one has none; without an open head there are none at all."""
        head, embeddings = self.joint.branch.open_head, draft.geometry.evidence.get(EMBEDDINGS)
        if head is None or not isinstance(embeddings, Tensor):
            return None
        own = functional.pad(embeddings[found.queries].float(), (0, 0, 0, 1))
        nothing = own.new_zeros(0)
        return Semantics(
            own, nothing.expand(anchors, 0), nothing.expand(own.shape[1], 0), head.calibration, self.text_encoder
        )

    def _instances(self, draft: Draft) -> tuple[Int64[Tensor, "V H W"], QueryInstances, Float[Tensor, "M E"]]:
        """Labels, instances, and their projected queries."""
        queries, features, logits = (draft.geometry.evidence[name] for name in (QUERIES, FEATURES, LOGITS))
        assert isinstance(queries, Tensor) and isinstance(features, Tensor) and isinstance(logits, Tensor)
        height, width = draft.photos.shape[-2:]
        labels, found = exclusive_instances(queries, features, logits, (height, width), self.decoding)
        if draft.geometry.mask is not None:
            labels = torch.where(draft.geometry.mask, labels, -1)
        return labels, found, queries[found.queries].float()

    def losses(self, example: Example, step: int, precision: Precision) -> LossTerms:
        """The objective of the queries, and VGGT's against the encoder as it was."""
        del step
        assert self.objective is not None, "built without an objective; use for_training"
        return self.objective(self.network, example, precision)

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
    with unfilled():
        system = SegVGGT(VGGT(network.encoder.config), SegVGGTModelConfig(sizes, names))
    system.encoder, system.joint, system.network = network.encoder, network, SavedParts(network)
    system.encoder_source, system.licence = str(source), LICENCE
    return system.eval()  # pyright: ignore[reportReturnType] # returns itself
