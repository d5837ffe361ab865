"""Photometric refinement: a few gradient steps that fit the Gaussians to the photos.

A feed-forward decoder leaves Gaussians blurred: blur costs it least where it is uncertain. The photos tell what is
missing, and rendering is cheap (3DGS calls it fine-tuning on the input views). Only Gaussians change: groups, anchors,
cameras and semantics stay the network's. Few steps help new views too; too many overfit the input views.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from tokengroups.bounds import Between, Settings
from tokengroups.postprocess.draft import Draft
from tokengroups.postprocess.full_photos import finest_photos
from tokengroups.postprocess.gaussian_fitting import refine_gaussians, steps_for


@dataclass(frozen=True)
class PhotometricRefinement(Settings):
    """Fit the decoded Gaussians to the photos (a `Step`).

    `steps` are for two photos: half for a single one, which is soon overfitted, and more for more. Where the
    photos are there with more pixels, `full_steps` take the place of `steps`, on photos of `full_size` pixels a side.
    """

    steps: Annotated[int, Between(0, 1000)] = 20
    full_steps: Annotated[int, Between(0, 1000)] = 30
    full_size: Annotated[int, Between(32, 4096)] = 256

    when: ClassVar[str] = "after_decoding"
    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, draft: Draft) -> Draft:
        """Replace the Gaussians of the prediction."""
        prediction = draft.predicted()
        photos, cameras, mask = finest_photos(draft, self.full_size)
        steps = steps_for(self.steps if draft.full_photos is None else self.full_steps, len(photos))
        gaussians = refine_gaussians(prediction.gaussians, photos, cameras, steps, mask=mask)
        return replace(draft, prediction=replace(prediction, gaussians=gaussians))
