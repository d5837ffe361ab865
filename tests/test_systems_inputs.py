"""Photos that a user passes to a system: right, or refused with the cure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_systems import ENCODER, GROUPS, random_photos

from tokengroups.encoders.vggt import VGGT
from tokengroups.io.images import Photos
from tokengroups.scene import load_scene, save_scene
from tokengroups.systems.token_groups import TokenGroups
from tokengroups.types import TokenScene

PHOTOS = random_photos()
PINHOLES = torch.tensor([[40.0, 0, 16], [0, 40, 16], [0, 0, 1]]).repeat(2, 1, 1)


@pytest.fixture(scope="module")
def system() -> TokenGroups:
    torch.manual_seed(0)
    return TokenGroups(VGGT(ENCODER), replace(GROUPS, num_anchors=16))


def with_value(value: float) -> torch.Tensor:
    photos = PHOTOS.clone()
    photos[1, 2, 3, 4] = value
    return photos


REFUSED: dict[str, tuple[Any, str]] = {
    "array": (PHOTOS.numpy(), r"must be a tensor \[V, 3, H, W\], got ndarray; give torch.from_numpy\(photos\)"),
    "list": ([[0.5]], "got list; give a tensor"),
    "nothing": (None, "got NoneType"),
    "what load_photos returns": (Photos(PHOTOS, (), ()), "got Photos; give its .images, as in photos.images"),
    "one photo": (PHOTOS[0], r"got \[3, 32, 32\]; one photo needs an axis of views: give photos\[None\]"),
    "batch": (PHOTOS[None], r"one scene at a time, such as photos\[0\]"),
    "channels last": (PHOTOS.permute(0, 2, 3, 1), r"got \[2, 32, 32, 3\]; .*permute\(0, 3, 1, 2\)"),
    "bytes, channels last": ((PHOTOS * 255).byte().permute(0, 2, 3, 1), r"permute\(0, 3, 1, 2\)"),
    "grey": (PHOTOS[:, :1], "three colours"),
    "alpha": (torch.cat([PHOTOS, PHOTOS[:, :1]], 1), "three colours"),
    "scalar": (torch.tensor(0.5), r"got \[\]; give the photos of one scene"),
    "no photo": (PHOTOS[:0], "at least one photo"),
    "odd side": (PHOTOS[..., :30], "sides must be multiples of 8"),
    "no pixels": (PHOTOS[..., :0], "sides must be multiples of 8"),
    "bytes": ((PHOTOS * 255).byte(), r"floats in \[0, 1\], got torch.uint8; give photos.float\(\) / 255"),
    "whole numbers": ((PHOTOS * 255).long(), r"photos.float\(\) / 255"),
    "truth values": (PHOTOS > 0.5, "floats"),
    "complex": (PHOTOS.to(torch.complex64), "floats"),
    "0 to 255": (PHOTOS * 255, r"must be in \[0, 1\], got values from .* to 25.*; divide them by 255"),
    "normalised": (PHOTOS * 4 - 2, r"got values from -.*; undo a normalisation, or clamp\(0, 1\)"),
    "too bright": (with_value(1.1), r"clamp\(0, 1\)"),
    "negative": (with_value(-0.1), r"clamp\(0, 1\)"),
    "not a number": (with_value(float("nan")), "got NaN or infinity"),
    "infinite": (with_value(float("inf")), "got NaN or infinity"),
    "elsewhere": (PHOTOS.to("meta"), r"photos must be on cpu, got meta; give photos.to\('cpu'\)"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("method", ["predict", "reconstruct"])
def test_photos_of_another_kind_are_refused_with_the_cure(system: TokenGroups, case: str, method: str) -> None:
    photos, words = REFUSED[case]
    with pytest.raises(ValueError, match=words) as caught:
        getattr(system, method)(photos)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("intrinsics", "words"),
    [
        (PINHOLES.numpy(), "must be a tensor"),
        (PINHOLES[0], r"got \[3, 3\]; give one matrix for each of the 2 photos"),
        (PINHOLES[:1], "one matrix for each of the 2 photos"),
        (torch.eye(4).repeat(2, 1, 1), r"got \[2, 4, 4\]"),
        (PINHOLES * float("nan"), "finite pinholes"),
        (-PINHOLES, "positive focal lengths"),
        (PINHOLES.mT, "in pixels of the photos"),
        (PINHOLES.to("meta"), "intrinsics must be on cpu"),
    ],
)
def test_intrinsics_of_another_kind_are_refused(system: TokenGroups, intrinsics: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        system.reconstruct(PHOTOS, intrinsics)


def same(one: TokenScene, other: TokenScene) -> bool:
    return torch.equal(one.gaussians.means, other.gaussians.means) and torch.equal(one.gaussians.sh, other.gaussians.sh)


def test_floats_of_any_width_and_rounding_are_taken(system: TokenGroups) -> None:
    expected, told = system.reconstruct(PHOTOS), system.reconstruct(PHOTOS, PINHOLES)
    assert not same(expected, told)
    assert same(system.reconstruct(PHOTOS.double()), expected)
    assert same(system.reconstruct(PHOTOS.double(), PINHOLES.long()), told)
    assert same(system.reconstruct(PHOTOS.half()), system.reconstruct(PHOTOS.half().float()))
    rounded = PHOTOS.clone()
    rounded[0, 0, 0, 0] = 1 + 1e-6
    assert system.reconstruct(rounded).gaussians.means.isfinite().all()


def test_the_start_of_the_sampling_may_be_any_whole_number(system: TokenGroups, tmp_path: Path) -> None:
    """And what is accepted can be saved."""
    scene = system.reconstruct(PHOTOS, fps_start=np.int64(5))
    assert same(scene, system.reconstruct(PHOTOS, fps_start=5))
    save_scene(tmp_path / "a.safetensors", scene)
    assert load_scene(tmp_path / "a.safetensors").provenance["seed"] == 5
