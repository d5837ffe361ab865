"""Photos that have found their place: drafts without those that do not fit the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.postprocess import Draft, Registration, Step, build_steps, register_photos, run_steps
from tokengroups.postprocess.registration import REGISTERED
from tokengroups.systems.base import SceneSystem
from tokengroups.types import TensorFields

ADJUSTMENT = "bundle_adjustment"


@dataclass(frozen=True)
class GivenPhotos(TensorFields):
    """Photos and what is known about them, as `SceneSystem.predict` takes it."""

    images: Float[Tensor, "V 3 H W"]
    intrinsics: Float[Tensor, "V 3 3"] | None = None
    cam_from_world: Float[Tensor, "V 4 4"] | None = None
    mask: Bool[Tensor, "V H W"] | None = None
    full_photos: Float[Tensor, "V 3 F G"] | None = None
    refine_cameras: bool = False

    def select(self, views: Sequence[int]) -> GivenPhotos:
        """Keep the photos with these indices, in this order."""
        return self.map(lambda tensor: tensor[list(views)])


@dataclass(frozen=True)
class Registered:
    """A draft of the photos that belong together, after the steps before decoding."""

    draft: Draft
    kept: tuple[int, ...]  # indices of its photos among those given
    registrations: tuple[Registration, ...]  # of all photos given; partners are indices among these


def begin_registered(
    model: SceneSystem, given: GivenPhotos, steps: Sequence[Step], fps_start: int | None = None, keep_all: bool = False
) -> Registered:
    """Encode photos and run the steps before decoding, without the photos that do not fit the others.

    The worse half of those is left out first, as they may have pulled others out of place. Then geometry is predicted
    again, in the world of the first photo that is left, until all fit. Photos with given poses all stay. Scores are
    those after bundle adjustment, which runs for them alone if it is not among the steps.

    Args:
        model: The system.
        given: The photos.
        steps: Post-processing.
        fps_start: As in `predict`.
        keep_all: Whether photos stay that do not register, too.

    Raises:
        ValueError: Photos or cameras of another type, shape, range or device.
        UserError: A step that the encoder cannot serve, or no two photos that show the same.
    """
    kept, found = list(range(len(given.images))), {}
    keep_all = keep_all or given.cam_from_world is not None
    while True:
        draft = _begin(model, given.select(kept), steps, fps_start)
        registrations = registrations_of(draft, steps)
        found |= {view: _among_all(each, kept) for view, each in zip(kept, registrations, strict=True)}
        good = [view for view in kept if found[view].registered]
        if keep_all or good == kept:
            return Registered(draft, tuple(kept), tuple(found[view] for view in range(len(given.images))))
        if not good:
            best = max(each.score for each in found.values())
            raise UserError(
                f"no two of the {len(given.images)} photos agree about what they show (scores up to {best:.2f}, "
                f"{REGISTERED} is needed); give sharp photos of one place that overlap by half; --keep-all makes a "
                "scene all the same"
            )
        kept = sorted(set(kept) - set(worse_half(found, [view for view in kept if view not in good])))


def worse_half(registrations: Mapping[int, Registration], views: Sequence[int]) -> list[int]:
    """Half of some photos, rounded up: those with the lowest scores."""
    return sorted(views, key=lambda view: registrations[view].score)[: (len(views) + 1) // 2]


@torch.no_grad()
def _begin(model: SceneSystem, given: GivenPhotos, steps: Sequence[Step], fps_start: int | None) -> Draft:
    parts = given.mask, given.full_photos, given.cam_from_world, given.refine_cameras
    draft = model.begin(given.images, given.intrinsics, steps, fps_start, *parts)
    return run_steps(draft, steps, "before_decoding")


@torch.no_grad()
def registrations_of(draft: Draft, steps: Sequence[Step]) -> tuple[Registration, ...]:
    """Registrations after bundle adjustment, which runs for them alone if it is not among the steps that have run."""
    (adjustment,) = build_steps([ADJUSTMENT], "registration")
    adjusted = draft if any(isinstance(step, type(adjustment)) for step in steps) else adjustment(draft)
    return register_photos(draft.photos, adjusted.geometry)


def _among_all(registration: Registration, kept: Sequence[int]) -> Registration:
    partner = registration.partner
    return registration if partner is None else replace(registration, partner=kept[partner])


def registration_facts(registered: Registered, names: Sequence[str]) -> list[dict[str, Any]]:
    """Registrations of all photos for a provenance, by the photos' names."""
    facts = [each.to_json() for each in registered.registrations]
    return [
        {"photo": name, **fact, "partner": None if fact["partner"] is None else names[fact["partner"]]}
        for name, fact in zip(names, facts, strict=True)
    ]
