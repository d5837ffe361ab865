"""Mask votes: the masks that another system makes of the same photos, as evidence for the groups of a scene.

Systems make different mistakes: token groups know what belongs together in space, masks of pixels where objects end.
This step is in the layer of systems, since it loads one; `STEPS` knows it by name, like the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

from tokengroups.bounds import Settings, Share
from tokengroups.checkpoint import find_weights
from tokengroups.errors import UserError
from tokengroups.postprocess import Draft, PhotoGroups, run_steps
from tokengroups.postprocess.votes import anchor_shares, vote
from tokengroups.reading import path_kind, shown
from tokengroups.systems.base import SceneSystem
from tokengroups.systems.weights import load_model


@dataclass(frozen=True)
class MaskVotes(Settings):
    """Let the masks of a system that segments photos vote for the groups of the anchors that they show (a `Step`).

    `tokengroups.postprocess.votes` has the rule. Anchors move between groups. No group is added; some may lose all of
    their anchors. Of several steps it should be the last: `default,mask_votes`.
    """

    weights: str = "iggt_tiny"  # of the other system: shipped name, folder, or published file; never a hub id
    weight: Share = 0.9  # of the votes

    when: ClassVar[str] = "after_decoding"
    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, draft: Draft) -> Draft:
        """Replace the assignment of the prediction.

        Raises:
            UserError: The draft's groups are masks themselves, or the other system does not suit the photos.
        """
        prediction = draft.predicted()
        if prediction.photo_groups is not None:
            raise UserError("mask_votes: groups of this system are masks already; leave the step out")
        masks = self.masks(draft)
        pixels, stride = prediction.anchor_pixels, prediction.anchor_stride
        shares = anchor_shares(masks.labels, len(masks.scores), pixels, stride)
        assignment = vote(prediction.assignment, shares, self.weight)
        return replace(draft, prediction=replace(prediction, assignment=assignment))

    @cached_property
    def system(self) -> SceneSystem:
        """The other system, loaded once.

        Raises:
            UserError: There are no such weights. A weight folder may name them, so that the hub is not asked.
        """
        if find_weights(self.weights) is None and path_kind(self.weights) == "missing":
            raise UserError(f"mask_votes: no weights '{shown(self.weights)}'; give a shipped name, a folder or a file")
        return load_model(self.weights)

    @property
    def licence(self) -> str:
        """Licence of the other system's weights; "" = they ask for none."""
        return self.system.licence

    def masks(self, draft: Draft) -> PhotoGroups:
        """What the other system finds in the photos by itself, as `tokengroups segment` does.

        Raises:
            UserError: It segments no photos, or its patches do not fit them.
        """
        other, (height, width) = self.system.to(draft.photos.device), draft.photos.shape[-2:]
        if height % other.size_multiple or width % other.size_multiple:
            sides = f"photos are {width}x{height}, and {shown(self.weights)} needs multiples of {other.size_multiple}"
            raise UserError(f"mask_votes: {sides}; give photos of another size, or weights of smaller patches")
        intrinsics = draft.geometry.cameras.intrinsics if draft.intrinsics_given else None
        own = other.encode(draft.photos, intrinsics)
        if other.masks_need_steps:
            own = run_steps(own, other.steps, "before_decoding")
        masks = other.segment(own)
        if masks is None:
            raise UserError(f"mask_votes: {shown(self.weights)} segments no photos; give weights of iggt or segvggt")
        return masks
