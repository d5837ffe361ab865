"""Curation: instance masks for videos and RGB-D scans from a segmenter, as InsScene-15K's were made (IGGT).

`video` finds and follows objects through the frames of a clip; `scans` sharpens the projected ids of a scan. Both take
any `Proposer`, and `video` any `Propagator`; `sam2` has those of SAM 2.
"""
