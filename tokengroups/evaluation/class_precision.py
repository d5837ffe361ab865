"""Class-aware average precision: a mask counts only for instances of the class that it is named after.

The rules are ScanNet's, as in `tokengroups.evaluation.average_precision`, one class after the other: a mask on an
instance of another class is a false positive of its own class, and pixels without a class are void.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from tokengroups.evaluation.average_precision import MIN_PIXELS, SceneOverlaps, average_precision, count_overlaps
from tokengroups.evaluation.masks import GroupMasks


@dataclass(frozen=True)
class NamedOverlaps:
    """Overlaps of the named masks of one scene with its instances."""

    overlaps: SceneOverlaps
    names: tuple[str, ...]  # one per prediction that is kept
    classes: tuple[str, ...]  # one per instance
    named: bool  # whether any mask has a name, kept or not

    def of_class(self, name: str) -> SceneOverlaps:
        """Overlaps of the masks and instances of one class; instances of others are neither found nor void."""
        rows, columns = (np.array([each == name for each in names], dtype=bool) for names in (self.names, self.classes))
        whole = self.overlaps
        return replace(
            whole,
            confidences=whole.confidences[rows],
            sizes=whole.sizes[rows],
            void=whole.void[rows],
            instance_sizes=whole.instance_sizes[columns],
            intersections=whole.intersections[np.ix_(rows, columns)],
        )


def named_overlaps(
    predicted: GroupMasks,
    names: Sequence[str],
    instance_ids: Int[np.ndarray, "V H W"],
    classes: dict[int, str],
    min_pixels: int = MIN_PIXELS,
) -> NamedOverlaps:
    """Count the pixels that named masks and true instances have in common.

    Args:
        predicted: Masks over the same pixels.
        names: Class of every mask, "" = none, which leaves the mask out; empty = none has one.
        instance_ids: -1 = unlabelled, which is void.
        classes: Class name of every instance id; instances without one are void.
        min_pixels: Smallest mask and smallest instance that count.
    """
    chosen = np.array([bool(name) for name in names] or [False] * len(predicted.masks), dtype=bool)
    masks, confidences = predicted.masks[chosen], predicted.confidences[chosen]
    kept = masks.sum(axis=1) >= min_pixels
    ids = instance_ids.reshape(-1)
    ids = np.where(np.isin(ids, [key for key, name in classes.items() if name]), ids, -1)
    return NamedOverlaps(
        overlaps=count_overlaps(masks[kept], confidences[kept], ids, min_pixels),
        names=tuple(np.array(names, dtype=object)[chosen][kept]) if names else (),
        classes=tuple(classes[key] for key in np.unique(ids[ids >= 0]).tolist()),
        named=bool(chosen.any()),
    )


def class_ap50(scenes: Sequence[NamedOverlaps]) -> float:
    """AP at IoU 0.5, mean over the classes that occur, the masks of all scenes ranked together.

    Classes of which every instance is smaller than counts do not occur. NaN if no mask of any scene has a name.
    """
    if not any(scene.named for scene in scenes):
        return float("nan")
    occurring = sorted({name for scene in scenes for name in scene.classes})
    by_class = [average_precision([scene.of_class(name) for scene in scenes]).ap50 for name in occurring]
    defined = [ap for ap in by_class if not np.isnan(ap)]
    return float(np.mean(defined)) if defined else float("nan")
