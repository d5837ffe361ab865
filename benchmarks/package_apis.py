"""How same_numbers.py asks a package for what it stores: one class for each form that the package's API has had."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol

SEED, EVALUATION_ROOMS, TRAINING_ROOMS, BATCH_SIZE = 101, 6, 8, 2
TASKS = ("geometry", "perspective", "pixel_gaussians", "token_groups", "token_groups_anchors", "token_groups_semantics")


class Package(Protocol):
    """What every form of the package's API is made to offer.

    `renamed` maps prefixes of parameter names of the oldest form to those of this one, `terms` names of losses.
    """

    renamed: Mapping[str, str]
    terms: Mapping[str, str]

    def scene(self, room: int, num_photos: int, given_intrinsics: bool, sharpening_steps: int | None) -> Any:
        """The scene of a test room's photos: nested dataclasses or mappings of tensors, with the names to store."""
        ...

    def evaluation(self) -> dict[str, Any]:
        """What an evaluation writes as JSON."""
        ...

    def task(self, name: str, folder: Path) -> Any:
        """One of `TASKS` with `model`, `batch(step, slots)` and `losses(batch, step)`; `folder` is for its files."""
        ...


class Old:
    """The package with `tokengroups.models` and `tokengroups.vggt`."""

    renamed: Mapping[str, str] = {}
    terms: Mapping[str, str] = {}
    configs: Mapping[str, tuple[str, ...]] = {
        "geometry": ("vggt_tiny",),
        "perspective": ("vggt_tiny_perspective", "go_on=true", "encoder=vggt_tiny"),
        "pixel_gaussians": ("vggt_tiny_gaussians",),
        "token_groups": ("token_groups_tiny", "losses.distillation=1"),
        "token_groups_anchors": ("token_groups_tiny_anchors",),
        "token_groups_semantics": ("token_groups_tiny_semantics",),
    }

    def __init__(self) -> None:
        self.model = take("tokengroups.models.load_model")("token_groups_tiny")
        self.room = cache(self._room)

    def _room(self, index: int, num_photos: int) -> Any:
        data = take("tokengroups.evaluation.protocol.EvaluationData")("procedural", num_photos, "test", SEED)
        generate = take("tokengroups.data.procedural.generate_room")
        frames = generate(SEED, index, "test", 2 * num_photos + 1, self.model.image_size)
        return take("tokengroups.evaluation.scenes.evaluation_scene")(frames, data)

    def scene(self, room: int, num_photos: int, given_intrinsics: bool, sharpening_steps: int | None) -> Any:
        """Every second of the frames of a path, as in an evaluation."""
        photos = self.room(room, num_photos).context
        intrinsics = photos.cameras.intrinsics if given_intrinsics else None
        return self.model.reconstruct(photos.images, None, sharpening_steps, intrinsics)

    def evaluation(self) -> dict[str, Any]:
        """Two photos a room, with semantics."""
        encoder = take("tokengroups.cli.text.load_encoder_for")(self.model.decoder.config.text_encoder)
        names = take("tokengroups.data.procedural.CLASS_NAMES")
        semantics = take("tokengroups.evaluation.semantic.SemanticEvaluation")(encoder, names)
        data = take("tokengroups.evaluation.protocol.EvaluationData")("procedural", 2, "test", SEED)
        scenes = (self.room(index, 2) for index in range(EVALUATION_ROOMS))
        evaluate = take("tokengroups.evaluation.evaluate.evaluate_scenes")
        return evaluate(self.model.predict, scenes, data, "token_groups_tiny", None, semantics).to_json()

    def task(self, name: str, folder: Path) -> Any:
        """The checkout's own configuration, made small and exact."""
        config, *changes = self.configs[name]
        root = Path(take("tokengroups.__file__")).parents[1]
        common = ("training.precision=fp32", "training.optimizer=adamw", f"training.batch_size={BATCH_SIZE}")
        files = (f"training.output={folder}", f"data.cache={folder}", f"data.num_rooms={TRAINING_ROOMS}")
        read = take("tokengroups.training.experiments.read_experiment")
        _, module, experiment = read(root / "configs" / f"{config}.yaml", [*changes, *common, *files])
        return module.build_task(experiment)


class New:
    """The package with `tokengroups.systems` and `tokengroups.encoders`."""

    renamed: Mapping[str, str] = {
        "perspective.details.same_object.": "single_view.details.pair_affinity.",
        "perspective.": "single_view.",
        "encoder.perspective.details.same_object.": "encoder.single_view.details.pair_affinity.",
        "encoder.perspective.": "encoder.single_view.",
        "details.same_object.": "details.pair_affinity.",
        "context_photo.": "context_single_view.",
        "anchor_photo.": "anchor_single_view.",
        "anchor_key.": "assignment.anchor_key.",
        "group_key.": "assignment.group_key.",
        "log_temperature": "assignment.log_temperature",
    }
    configs: Mapping[str, tuple[str, ...]] = {
        **Old.configs,
        "perspective": ("vggt_tiny_single_view", "resume_network=true", "encoder=vggt_tiny"),
    }
    terms: Mapping[str, str] = {"same_object": "pair_affinity"}

    def __init__(self) -> None:
        self.model = take("tokengroups.systems.load_model")("token_groups_tiny")
        self.room = cache(self._room)

    def _rooms(self, num_photos: int) -> Any:
        options = {"seeds": [SEED], "num_rooms": EVALUATION_ROOMS}
        return take("tokengroups.data.base.open_dataset")(
            "procedural", num_frames=2 * num_photos + 1, size=self.model.image_size, options=options
        )

    def _room(self, index: int, num_photos: int) -> Any:
        rooms = self._rooms(num_photos)
        plan = take("tokengroups.data.example.FramePlan")(num_photos)
        return take("tokengroups.data.example.cut_example")(rooms[rooms.splits["test"][index]], plan)

    def scene(self, room: int, num_photos: int, given_intrinsics: bool, sharpening_steps: int | None) -> Any:
        """Every second of the frames of a path, as in an evaluation."""
        photos = self.room(room, num_photos).context
        intrinsics = photos.cameras.intrinsics if given_intrinsics else None
        steps = self.model.steps
        if sharpening_steps is not None:
            refinement = take("tokengroups.postprocess.photometric.PhotometricRefinement")
            steps = [refinement(sharpening_steps) if isinstance(s, refinement) else s for s in steps]
        return self.model.reconstruct(photos.images, intrinsics, postprocess=steps)

    def evaluation(self) -> dict[str, Any]:
        """Two photos a room, with semantics."""
        encoder = take("tokengroups.cli.text.load_encoder_for")(self.model.network.config.text_encoder)
        names = self._rooms(2).class_names
        semantics = take("tokengroups.evaluation.semantic.SemanticEvaluation")(encoder, names)
        plan = take("tokengroups.data.example.FramePlan")(2)
        data = take("tokengroups.evaluation.protocol.EvaluationData")("procedural", plan, "test", SEED)
        scenes = (self.room(index, 2) for index in range(EVALUATION_ROOMS))
        evaluate = take("tokengroups.evaluation.evaluate.evaluate_scenes")
        report = evaluate(self.model.predict, scenes, data, "token_groups_tiny", None, semantics).to_json()
        protocol = report["protocol"]
        given = protocol.pop("given_intrinsics", protocol.get("known_intrinsics"))  # the older name of the field
        return report | {"protocol": protocol | {"known_intrinsics": given}}

    def task(self, name: str, folder: Path) -> Any:
        """The checkout's own configuration, made small and exact."""
        config, *changes = self.configs[name]
        root = Path(take("tokengroups.__file__")).parents[1]
        common = ("training.precision=fp32", "training.optimizer=adamw", f"training.batch_size={BATCH_SIZE}")
        files = (f"training.output={folder}", f"data.root={folder}", f"data.options.num_rooms={TRAINING_ROOMS}")
        read = take("tokengroups.training.experiments.read_experiment")
        return read(root / "configs" / f"{config}.yaml", [*changes, *common, *files]).build()


# Another form of the API goes here, and in front of this table: the first one whose module is there is used.
PACKAGES: dict[str, type[Package]] = {"tokengroups.systems": New, "tokengroups.models": Old}


def take(path: str) -> Any:
    """What a dotted path names, imported late: not every form of the package has it."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)
