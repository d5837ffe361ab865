"""The interface of systems, and the base class of those that turn photos into scenes."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, SupportsIndex, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tokengroups.data.example import Example
from tokengroups.encoders import Encoder, Geometry
from tokengroups.encoders.weights import place_encoder
from tokengroups.evaluation.evaluate import evaluate_scenes
from tokengroups.evaluation.protocol import EvaluationData
from tokengroups.losses.terms import LossTerms
from tokengroups.nn.parameter_groups import decay_groups
from tokengroups.nn.precision import Precision
from tokengroups.postprocess import (
    Draft,
    KnownPoses,
    PhotoGroups,
    Reconstruction,
    Step,
    check_evidence,
    choose_steps,
    describe_steps,
    place,
    run_steps,
    token_scene,
)
from tokengroups.systems.inputs import (
    TrainingPhotos,
    check_full_photos,
    check_intrinsics,
    check_mask,
    check_photos,
    check_poses,
)
from tokengroups.systems.known_world import in_known_world
from tokengroups.types import TokenScene, stack


@runtime_checkable
class System(Protocol):
    """Networks with their objective, parameter groups and numbers to watch; one `SystemTask` trains any of them.

    Your own needs one file; name it ``package.module:Class`` under ``task`` in a configuration::

        @dataclass(frozen=True)
        class Settings:  # the configuration's keys beside training and data
            bias: bool = True

        class MeanColour:  # predicts the mean colour of the target views
            settings_class = Settings

            def __init__(self, settings):
                self.network = nn.Linear(3, 3, settings.bias)

            for_training = classmethod(lambda cls, settings: cls(settings))
            def losses(self, example, step, precision):
                means = [views.images.mean(dim=(1, 3, 4)) for views in (example.context, example.targets)]
                loss = (self.network(means[0]) - means[1]).square().mean()
                return LossTerms(loss, {"mse": loss})

            def evaluate(self, examples, data):
                return {"mse": sum(float(self.losses(stack_examples([e]), 0, "fp32").total) for e in examples)}

            def parameter_groups(self, weight_decay, muon):
                return decay_groups(self.network, weight_decay)

            def export(self, folder, state):
                save_weights(folder, state, {})
    """

    network: nn.Module  # what is trained and saved
    settings_class: type  # a dataclass

    @classmethod
    def for_training(cls, settings: Any) -> System: ...  # noqa: D102
    def losses(self, example: Example, step: int, precision: Precision) -> LossTerms: ...  # noqa: D102
    def evaluate(self, examples: Iterable[Example], data: EvaluationData) -> dict[str, float]: ...  # noqa: D102
    def parameter_groups(self, weight_decay: float, muon: bool) -> list[dict[str, Any]]: ...  # noqa: D102
    def export(self, folder: Path, state: Mapping[str, Tensor]) -> None: ...  # noqa: D102


class SceneSystem(nn.Module):
    """A system that turns photos into scenes: an encoder, steps before decoding, `decode`, steps after it.

    A subclass has a `network`, `decode`, and the rest of `System`: `settings_class`, `for_training`, `losses` and
    `export`. To be loaded by `load_model` it has a `config_class`, and its constructor takes (encoder, config, steps).

    Args:
        encoder: The encoder; frozen here.
        steps: Post-processing of ``postprocess="default"``; those before decoding are run in training too.
        patch: Photo sides must be multiples of it, beside the encoder's patches.

    Raises:
        UserError: A step needs evidence that the encoder does not give.
    """

    network: nn.Module
    adjustable: ClassVar[Mapping[str, str]] = {}  # options that change settings after loading: attribute.field
    training_photos: TrainingPhotos | None = None  # None: not known
    lean: bool = False  # loaded for inference: a large VGGT has a trunk in bfloat16 on a GPU
    licence: str = ""  # of published weights that ask for one, for notes and the provenance of scenes

    def __init__(self, encoder: Encoder, steps: Sequence[Step], patch: int = 1) -> None:
        super().__init__()
        if isinstance(encoder, nn.Module):
            encoder.requires_grad_(False).eval()
        check_evidence(steps, encoder)
        self.encoder = encoder
        self.steps = tuple(steps)
        self.text_encoder = ""  # name of the text encoder whose space the groups' embeddings are in; "" = no semantics
        self.image_size = encoder.image_size  # longer side in pixels of the photos of the training, if known
        self.size_multiple = math.lcm(encoder.patch_size, patch)  # photo sides must be multiples of this

    def train(self, mode: bool = True) -> SceneSystem:
        """Set the training mode of everything but the encoder."""
        super().train(mode)
        if isinstance(self.encoder, nn.Module):
            self.encoder.eval()
        return self

    def encode(
        self,
        photos: Float[Tensor, "V 3 H W"],
        intrinsics: Float[Tensor, "V 3 3"] | None = None,
        full_photos: Float[Tensor, "V 3 F G"] | None = None,
    ) -> Draft:
        """Run the frozen encoder on the photos of one scene; no gradients, no steps."""
        given, full = (None if each is None else each[None] for each in (intrinsics, full_photos))
        with torch.no_grad():
            geometry = self._encode(photos[None], given, full)
        return Draft(photos, geometry.scene(0), self, intrinsics is not None, full_photos=full_photos)

    def decode(self, draft: Draft) -> Draft:
        """Predict Gaussians and groups from the geometry of one scene."""
        raise NotImplementedError

    def segment(self, draft: Draft) -> PhotoGroups | None:  # noqa: ARG002
        """Group the pixels of encoded photos, without decoding; None: only a rendering shows the groups."""
        return None

    @property
    def masks_need_steps(self) -> bool:
        """Whether `segment` reads what the steps before decoding change."""
        return False

    def adjust(self, **settings: Any) -> None:
        """Change settings that `adjustable` names; raises ValueError beyond their bounds, KeyError for others."""
        for name, value in settings.items():
            holder, _, setting = self.adjustable[name].partition(".")
            setattr(self, holder, replace(getattr(self, holder), **{setting: value}))

    def licence_with(self, steps: Sequence[Step]) -> str:
        """Licences of the weights and of those that steps load, which their `licence` tells; "" = none."""
        licences = [self.licence, *(getattr(step, "licence", "") for step in steps)]
        return "; ".join(dict.fromkeys(filter(None, licences)))

    def _encode(self, images: Tensor, intrinsics: Tensor | None = None, full_images: Tensor | None = None) -> Geometry:
        """Run the encoder where the photos are: training moves the network alone, and may evaluate first."""
        place_encoder(self.encoder, images.device, lean=self.lean)
        if full_images is not None and getattr(self.encoder, "reads_full_photos", False):
            return self.encoder.encode(images, intrinsics, full_images=full_images)  # pyright: ignore[reportCallIssue]
        return self.encoder.encode(images, intrinsics)

    def encode_batch(self, images: Float[Tensor, "B V 3 H W"]) -> Geometry:
        """Geometry of a training batch after the steps before decoding; no gradients, and no autocast in the steps."""
        with torch.no_grad():
            geometry = self._encode(images)
            steps = [step for step in self.steps if step.when == "before_decoding"]
            if not steps:
                return geometry
            drafts = [Draft(photos, geometry.scene(i), self) for i, photos in enumerate(images)]
            with torch.autocast(images.device.type, enabled=False):
                return stack([run_steps(draft, steps, "before_decoding").geometry for draft in drafts])

    def evaluate(self, examples: Iterable[Example], data: EvaluationData) -> dict[str, float]:
        """Measure what `tokengroups evaluate` measures, on held-out examples."""
        device = next(self.network.parameters()).device
        result = evaluate_scenes(lambda photos: self.predict(photos.to(device)), examples, data, "training")
        return {name: value for name, value in result.to_json().items() if isinstance(value, float)}

    def parameter_groups(self, weight_decay: float, muon: bool) -> list[dict[str, Any]]:  # noqa: ARG002
        """Weight decay on matrices alone."""
        return decay_groups(self.network, weight_decay)

    @torch.no_grad()
    def predict(
        self,
        photos: Float[Tensor, "V 3 H W"] | Any,
        intrinsics: Float[Tensor, "V 3 3"] | Any = None,
        cam_from_world: Float[Tensor, "V 4 4"] | Any = None,
        *,
        refine_cameras: bool = False,
        mask: Bool[Tensor, "V H W"] | Any = None,
        full_photos: Float[Tensor, "V 3 F G"] | Any = None,
        postprocess: str | Sequence[Step] = "default",
        fps_start: SupportsIndex | None = None,
    ) -> Reconstruction:
        """Reconstruct one scene and keep what evaluation needs of it.

        Args:
            photos: In [0, 1], on the model's device; the first one defines the world, unless poses are given; sides
                are multiples of `size_multiple`.
            intrinsics: Of the photos, in their pixels, where they are given; None: they are predicted.
            cam_from_world: Poses of the photos in any world and unit, which become the scene's; intrinsics must be
                given, too. None: they are predicted.
            refine_cameras: The given cameras are approximate: bundle adjustment may change them.
            mask: Pixels that count; no Gaussian, match or mask comes from others. None = all.
            full_photos: The same photos with more pixels, for steps that use them; None = there are none.
            postprocess: ``none``, ``default``, ``NAME[,NAME...]``, or steps.
            fps_start: Candidate that farthest-point sampling starts from; None = the one nearest to the centre.

        Raises:
            ValueError: Photos or intrinsics of another type, shape, range or device.
            UserError: An unknown step, or one that the encoder cannot serve.
        """
        steps = choose_steps(postprocess, self.steps)
        draft = self.begin(photos, intrinsics, steps, fps_start, mask, full_photos, cam_from_world, refine_cameras)
        return self.complete(run_steps(draft, steps, "before_decoding"), steps)

    def begin(
        self,
        photos: Any,
        intrinsics: Any,
        steps: Sequence[Step],
        fps_start: SupportsIndex | None = None,
        mask: Any = None,
        full_photos: Any = None,
        cam_from_world: Any = None,
        refine_cameras: bool = False,
    ) -> Draft:
        """Check and encode the photos of one scene; arguments and errors as in `predict`."""
        device = next((parameter.device for parameter in self.network.parameters()), None)
        photos = check_photos(photos, self.size_multiple, device)
        if intrinsics is not None:
            intrinsics = check_intrinsics(intrinsics, photos)
        if mask is not None:
            mask = check_mask(mask, photos)
        if full_photos is not None:
            full_photos = check_full_photos(full_photos, photos)
        if cam_from_world is not None:
            cam_from_world = check_poses(cam_from_world, photos, intrinsics)
        seed = None if fps_start is None else operator.index(fps_start)
        check_evidence(steps, self.encoder)
        self.eval()
        draft = self.encode(photos, intrinsics, full_photos)
        geometry = replace(draft.geometry, mask=mask)
        draft = replace(draft, fps_start=seed, geometry=geometry)
        return draft if cam_from_world is None else place(draft, KnownPoses(cam_from_world, refine_cameras))

    @torch.no_grad()
    def complete(self, draft: Draft, steps: Sequence[Step]) -> Reconstruction:
        """Decode a draft whose steps before decoding are done, and run those after it."""
        draft = run_steps(self.decode(draft), steps, "after_decoding")
        provenance = {
            "num_photos": len(draft.photos),
            "seed": draft.fps_start,
            "intrinsics": "given" if draft.intrinsics_given else "predicted",
            "postprocess": describe_steps(steps),
        }
        if getattr(self.encoder, "fast", False):
            provenance["fast"] = True
        if licence := self.licence_with(steps):
            provenance["licence"] = licence
        prediction = draft.predicted()
        scene = token_scene(draft, provenance)
        depth, mask = draft.geometry.depth, draft.geometry.mask
        made = Reconstruction(scene, depth, prediction.anchor_pixels, prediction.photo_groups, mask)
        return made if draft.known_poses is None else in_known_world(made, draft)

    def reconstruct(
        self,
        photos: Float[Tensor, "V 3 H W"] | Any,
        intrinsics: Float[Tensor, "V 3 3"] | Any = None,
        cam_from_world: Float[Tensor, "V 4 4"] | Any = None,
        *,
        refine_cameras: bool = False,
        mask: Bool[Tensor, "V H W"] | Any = None,
        full_photos: Float[Tensor, "V 3 F G"] | Any = None,
        postprocess: str | Sequence[Step] = "default",
        fps_start: SupportsIndex | None = None,
    ) -> TokenScene:
        """Turn photos of a room into a scene of groups; arguments and errors as in `predict`.

        Example:
            >>> import torch
            >>> import tokengroups as tg
            >>> photos = torch.rand(2, 3, 128, 128)  # noise; take `tg.load_photos(...).images`
            >>> scene = tg.load_model().reconstruct(photos, postprocess="none")
            >>> scene.cameras.cam_from_world.shape
            torch.Size([2, 4, 4])
        """
        options = {"mask": mask, "full_photos": full_photos, "postprocess": postprocess, "fps_start": fps_start}
        return self.predict(photos, intrinsics, cam_from_world, refine_cameras=refine_cameras, **options).scene
