"""Readers of packed splat files - .splat, .ksplat, SPZ, SOG, compressed PLY - and the writer of SPZ.

All readers return Gaussians in our ranges and axes. CONVENTIONS.md has the sources of the layouts.
"""

from tokengroups.io.splats.formats import FORMATS, find_format
from tokengroups.io.splats.sog import META, is_sog_meta

__all__ = ["FORMATS", "META", "find_format", "is_sog_meta"]
