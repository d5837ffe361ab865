"""Location of the C++ rasteriser, which is built once per user where it is missing, and its C ABI for ctypes."""

from __future__ import annotations

import ctypes
import logging
import os
from ctypes import POINTER, Structure, c_int, c_int64, c_void_p
from functools import cache
from pathlib import Path

import torch  # noqa: F401  (first: its OpenMP runtime then serves the library too)

from tokengroups.io.cache import cache_folder
from tokengroups.render.build import BuildError, build_library, is_sealed, library_name

_LOG = logging.getLogger(__name__)
VARIANTS = {"portable": 0, "avx2": 1, "avx512": 2}
NOT_FINITE, NO_MEMORY = 1, 2  # a status; 0 = success
NATIVE_FOLDER = Path(__file__).parent / "_native"


class Wide(Structure):
    """`TgWide` of csrc/interface.h."""

    _fields_ = [
        ("row_of_gaussian", c_void_p), ("values", c_void_p),
        ("rows", c_int64), ("dim", c_int64), ("per_camera", c_int64),
    ]  # fmt: skip


class Scene(Structure):
    """`TgScene` of csrc/interface.h."""

    _fields_ = [
        *((name, c_int64) for name in ("scenes", "cameras", "gaussians", "height", "width", "channels")),
        *((name, c_void_p) for name in ("means", "quats", "scales", "opacities", "colors")),
        ("colors_per_camera", c_int64), ("harmonics", c_int64),
        ("cam_from_world", c_void_p), ("intrinsics", c_void_p), ("wide", Wide * 2), ("threads", c_int64),
    ]  # fmt: skip


class Images(Structure):
    """`TgImages` of csrc/interface.h."""

    _fields_ = [
        *((name, c_void_p) for name in ("colors", "alphas", "depths")), ("wide", c_void_p * 2), ("largest", c_void_p),
    ]  # fmt: skip


class Gradients(Structure):
    """`TgGradients` of csrc/interface.h."""

    _fields_ = [
        *((name, c_void_p) for name in ("means", "quats", "scales", "opacities", "colors")),
        ("wide", c_void_p * 2), ("cam_from_world", c_void_p),
    ]  # fmt: skip


class LibraryMissing(Exception):
    """The C++ rasteriser is not available; the message says why in one line."""


def _locate() -> Path:
    name = library_name()
    cache = cache_folder()
    for folder in (NATIVE_FOLDER, cache):
        if folder is not None and is_sealed(folder / name):
            return folder / name
    if cache is None:
        raise BuildError("no folder to build the C++ rasteriser in; set XDG_CACHE_HOME")
    path = build_library(cache)
    _LOG.info("built the C++ rasteriser once: %s", path)
    return path


@cache
def _load() -> ctypes.CDLL | str:
    """Load the library, or return the reason why there is none; a warning is printed once."""
    try:
        library = ctypes.CDLL(str(_locate()))
    except (BuildError, OSError) as error:
        _LOG.warning("rendering with PyTorch, which is slow: %s", error)
        return str(error)
    library.tg_supports.argtypes = [c_int]
    library.tg_forward.argtypes = [c_int, POINTER(Scene), POINTER(Images), POINTER(c_void_p), POINTER(c_int64)]
    library.tg_backward.argtypes = [
        c_int, POINTER(Scene), POINTER(Images), POINTER(Images), c_void_p, POINTER(Gradients),
    ]  # fmt: skip
    library.tg_release.argtypes = [c_int, c_void_p]
    library.tg_release.restype = None
    return library


def native_missing() -> str | None:
    """Return the reason why the C++ kernels cannot be used, in one line, or None."""
    library = _load()
    return library if isinstance(library, str) else None


def load_library() -> ctypes.CDLL:
    """Return the loaded library.

    Raises:
        LibraryMissing: It is neither installed nor can it be built.
    """
    library = _load()
    if isinstance(library, str):
        raise LibraryMissing(library)
    return library


def supported_variants() -> list[str]:
    """List the names of the variants that this machine can execute, slowest first."""
    library = load_library()
    return [name for name, number in VARIANTS.items() if library.tg_supports(number)]


def chosen_variant() -> int:
    """Return the number of the variant to use: `TOKENGROUPS_RENDER_VARIANT` if set, else the fastest supported."""
    supported = supported_variants()
    name = os.environ.get("TOKENGROUPS_RENDER_VARIANT") or supported[-1]
    if name not in supported:
        raise ValueError(f"TOKENGROUPS_RENDER_VARIANT={name} is not available here: {', '.join(supported)}")
    return VARIANTS[name]
