"""A scene in the making: photos, an encoder's geometry, a system's prediction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tokengroups.encoders import Geometry
from tokengroups.types import Gaussians, Semantics, TensorFields, TokenScene


@dataclass(frozen=True)
class PhotoGroups(TensorFields):
    """Groups of the photos' own pixels, from a system that segments photos."""

    labels: Int64[Tensor, "V H W"]  # index of the group, which is its id in the scene
    scores: Float[Tensor, " L"]  # the larger, the more certain is the group's mask
    field: Float[Tensor, "V E H W"] | None = None  # that the groups are clusters of
    names: tuple[str, ...] = ()  # one per group, "" = unnamed; empty = none named


@dataclass(frozen=True)
class Prediction(TensorFields):
    """A system's answer for one scene, in the world and scale of its geometry."""

    gaussians: Gaussians
    anchor_ids: Int64[Tensor, " N"]  # anchor of each Gaussian
    anchors: Float[Tensor, "K 3"]
    anchor_pixels: Int64[Tensor, "K 3"]  # view, row, column of the photo pixel behind every anchor
    anchor_stride: int  # pixels between neighbouring anchor candidates
    assignment: Float[Tensor, "K L"]  # probabilities over the groups, rows sum to 1
    group_tokens: Float[Tensor, "L D"]
    semantics: Semantics | None = None
    photo_groups: PhotoGroups | None = None  # None: the photos' groups are those that a rendering shows
    group_names: tuple[str, ...] = ()  # as in `TokenScene`
    group_scores: Float[Tensor, " L"] | None = None  # as in `TokenScene`


@runtime_checkable
class Model(Protocol):
    """Encoding and decoding that a step may ask for again."""

    def encode(
        self,
        photos: Float[Tensor, "V 3 H W"],
        intrinsics: Float[Tensor, "V 3 3"] | None = None,
        full_photos: Float[Tensor, "V 3 F G"] | None = None,
    ) -> Draft:
        """Geometry of one scene's photos, without any step."""
        ...

    def decode(self, draft: Draft) -> Draft:
        """The draft with a prediction."""
        ...


@dataclass(frozen=True)
class KnownPoses(TensorFields):
    """Poses of the photos that a user gives."""

    cam_from_world: Float[Tensor, "V 4 4"]  # float64, in the user's world and unit
    refine: bool = False  # they are approximate
    unit: float | None = None  # of the draft's geometry, in the user's unit; None = not known


@dataclass(frozen=True)
class Draft(TensorFields):
    """Everything that is known about one scene so far; its world is the camera of the first photo."""

    photos: Float[Tensor, "V 3 H W"]  # in [0, 1]
    geometry: Geometry  # without batch axis
    model: Model  # that made it
    intrinsics_given: bool = False
    fps_start: int | None = None  # candidate that farthest-point sampling starts from; None = the central one
    prediction: Prediction | None = None
    full_photos: Float[Tensor, "V 3 F G"] | None = None  # the photos with more pixels, for steps that use them
    known_poses: KnownPoses | None = None  # None: poses are predicted

    def predicted(self) -> Prediction:
        """The prediction; raises ValueError before decoding."""
        if self.prediction is None:
            raise ValueError("this step works on decoded drafts; run it after decoding")
        return self.prediction


@dataclass(frozen=True)
class Reconstruction(TensorFields):
    """A reconstructed scene with what it was made from, for evaluation."""

    scene: TokenScene
    depth: Float[Tensor, "V H W"]  # predicted for the photos, in the scene's unit
    anchor_pixels: Int64[Tensor, "K 3"]  # view, row, column of the photo pixel behind every anchor
    photo_groups: PhotoGroups | None = None
    mask: Bool[Tensor, "V H W"] | None = None  # pixels of the photos that count; None = all


def token_scene(draft: Draft, provenance: dict[str, Any]) -> TokenScene:
    """Turn a decoded draft into a scene: groups that own no anchor are dropped, the others keep their index as id."""
    prediction = draft.predicted()
    used = prediction.assignment.argmax(dim=-1).unique()
    assignment = prediction.assignment[:, used]
    semantics = prediction.semantics
    if semantics is not None:
        semantics = replace(semantics, embeddings=semantics.embeddings[used])
    return TokenScene(
        gaussians=prediction.gaussians,
        anchor_ids=prediction.anchor_ids,
        anchors=prediction.anchors,
        assignment=assignment / assignment.sum(dim=-1, keepdim=True),
        group_ids=used,
        group_tokens=prediction.group_tokens[used],
        cameras=draft.geometry.cameras,
        group_names=tuple(prediction.group_names[group] for group in used.tolist()) if prediction.group_names else (),
        provenance=provenance,
        semantics=semantics,
        group_scores=None if prediction.group_scores is None else prediction.group_scores[used],
    )
