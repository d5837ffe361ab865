"""Instance masks of photos by any system, and the folder that they are written to."""

from tokengroups.segmentation.folder import write_segmentation
from tokengroups.segmentation.layout import Layout, check_place, plan_layout
from tokengroups.segmentation.segment import NOTHING_FOUND, Segmentation, overlap_notes, segment_photos

__all__ = [
    "NOTHING_FOUND", "Layout", "Segmentation", "check_place", "overlap_notes", "plan_layout", "segment_photos",
    "write_segmentation",
]  # fmt: skip
