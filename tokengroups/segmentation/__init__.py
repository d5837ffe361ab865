"""Instance masks of photos by any system, and the folder that they are written to."""

from tokengroups.segmentation.folder import write_segmentation
from tokengroups.segmentation.layout import Layout, check_place, plan_layout
from tokengroups.segmentation.segment import Segmentation, overlap_notes, segment_photos, unrelated_notes

__all__ = [
    "Layout", "Segmentation", "check_place", "overlap_notes", "plan_layout", "segment_photos", "unrelated_notes",
    "write_segmentation",
]  # fmt: skip
