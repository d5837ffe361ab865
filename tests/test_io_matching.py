"""Which camera and which mask belong to which photo."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tokengroups.errors import UserError
from tokengroups.io.cameras import load_named_cameras, save_cameras
from tokengroups.io.matching import find_masks, match_photos
from tokengroups.io.posed_cameras import PosedCamera
from tokengroups.types import Cameras

RIG = ("cam0/000.png", "cam0/001.png", "cam1/000.png", "cam1/001.png")


def camera(name: str) -> PosedCamera:
    return PosedCamera(name, np.eye(4), np.array([[50.0, 0, 32], [0, 50, 24], [0, 0, 1]]), (48, 64))


# --- cameras ---------------------------------------------------------------------------------------------------------


def test_photos_find_their_cameras_by_name() -> None:
    cameras = [camera("./images/a.jpg"), camera("train/r_0"), camera("left/x.png"), camera("right/x.png")]
    photos = [Path("p/a.JPG"), Path("r_0.png"), Path("q/right/x.png"), Path("z.png")]
    pairs, notes = match_photos(cameras, photos)
    assert [(path.name, found.name) for path, found in pairs] == [
        ("a.JPG", "./images/a.jpg"),
        ("r_0.png", "train/r_0"),
        ("x.png", "right/x.png"),
    ]
    assert notes == ["left out 1 photo without a camera: z.png", "left out 1 camera without a photo: left/x.png"]


def test_a_photo_without_a_camera_does_not_get_that_of_its_namesake() -> None:
    """COLMAP registered only one of two photos 000.png."""
    pairs, notes = match_photos([camera("cam0/000.png")], [Path(f"images/{name}") for name in RIG])
    assert [(str(path), found.name) for path, found in pairs] == [("images/cam0/000.png", "cam0/000.png")]
    assert "left out 3 photos without a camera" in notes[0]


def test_ambiguous_and_foreign_names_are_refused() -> None:
    with pytest.raises(UserError, match="fits the cameras of left/x.png and right/x.png"):
        match_photos([camera("left/x.png"), camera("right/x.png")], [Path("x.png")])
    with pytest.raises(UserError, match="images/cam0/000.png and images/cam1/000.png: both fit the camera of 000.png"):
        match_photos([camera("000.png")], [Path("images/cam0/000.png"), Path("images/cam1/000.png")])
    with pytest.raises(UserError, match="none of the 1 photos"):
        match_photos([camera("a.png")], [Path("b.png")])
    with pytest.raises(UserError, match="has no img_name"):
        match_photos([camera("")], [Path("b.png")])


def test_our_own_camera_files_serve_as_well(tmp_path: Path) -> None:
    pinhole = torch.tensor([[50.0, 0, 31], [0, 40, 20], [0, 0, 1]])[None]
    pose = torch.eye(4)[None].clone()
    pose[0, :3, 3] = torch.tensor([1.0, 2, 3])
    save_cameras(tmp_path / "cameras.json", Cameras(pose, pinhole, (48, 64)), ["a.jpg"])
    (found,) = load_named_cameras(tmp_path / "cameras.json").cameras
    assert found.name == "a.jpg" and found.size_hw == (48, 64)
    np.testing.assert_allclose(found.cam_from_world, pose[0])
    np.testing.assert_allclose(found.intrinsics, pinhole[0])


# --- masks -----------------------------------------------------------------------------------------------------------


def touch(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return [folder / name for name in names]


def found(tmp_path: Path, photos: tuple[str, ...], masks: tuple[str, ...]) -> dict[str, str]:
    """Names of the masks of photos, below their folders."""
    paths = touch(tmp_path / "images", *photos)
    touch(tmp_path / "masks", *masks)
    pairs = find_masks(tmp_path / "masks", paths).items()
    return {
        photo.relative_to(tmp_path / "images").as_posix(): mask.relative_to(tmp_path / "masks").as_posix()
        for photo, mask in pairs
    }


@pytest.mark.parametrize(
    ("photos", "masks", "expected"),
    [
        # laid out like the photos
        (RIG, RIG, dict(zip(RIG, RIG, strict=True))),
        (RIG, RIG[2:], dict(zip(RIG[2:], RIG[2:], strict=True))),  # the others have none
        (("a.jpg", "cam1/a.jpg"), ("a.png", "cam1/a.png"), {"a.jpg": "a.png", "cam1/a.jpg": "cam1/a.png"}),
        (RIG[2:], RIG, dict(zip(RIG[2:], RIG[2:], strict=True))),  # photos of one camera, masks of both
        # by a stem that only one photo and one mask have
        (("cam0/a.jpg", "cam1/b.jpg"), ("a.png", "b.png"), {"cam0/a.jpg": "a.png", "cam1/b.jpg": "b.png"}),
        (("a.jpg", "b.jpg"), ("m/a.png", "n/b.png"), {"a.jpg": "m/a.png", "b.jpg": "n/b.png"}),
        # suffixes in any case, and the photo's whole name
        (("A.JPG", "b.png"), ("A.PNG", "b.TIF"), {"A.JPG": "A.PNG", "b.png": "b.TIF"}),
        (("a.jpg", "b.png"), ("a.jpg.png", "b.png.PNG"), {"a.jpg": "a.jpg.png", "b.png": "b.png.PNG"}),
        (("a.jpg", "a.png"), ("a.jpg.png", "a.png.png"), {"a.jpg": "a.jpg.png", "a.png": "a.png.png"}),
        (("cam0/a.png", "cam1/a.png"), ("cam0/a.png.png",), {"cam0/a.png": "cam0/a.png.png"}),
        # other files are no masks
        (("a.jpg",), ("a.png", "a.txt", ".a.png", ".old/a.png"), {"a.jpg": "a.png"}),
    ],
)
def test_masks_belong_to_the_photos_of_their_path(
    photos: tuple[str, ...], masks: tuple[str, ...], expected: dict[str, str], tmp_path: Path
) -> None:
    assert found(tmp_path, photos, masks) == expected


@pytest.mark.parametrize(
    ("photos", "masks", "culprits"),
    [
        (RIG, ("000.png", "001.png", "002.png", "003.png"), ("000.png", "images/cam0/000.png", "images/cam1/000.png")),
        (("cam0/a.jpg", "cam1/a.jpg"), ("a.png",), ("a.png", "cam0/a.jpg", "cam1/a.jpg")),
        (("cam0/a.jpg", "cam1/a.jpg"), ("cam0/a.png", "x/a.png"), ("x/a.png", "cam1/a.jpg")),
        (("a.jpg",), ("m/a.png", "n/a.png"), ("m/a.png, n/a.png", "a.jpg")),
        (("a.jpg",), ("a.png", "a.tif"), ("a.png, a.tif", "a.jpg")),
        (("a.jpg", "a.png"), ("a.png",), ("a.png", "a.jpg")),
    ],
)
def test_names_that_do_not_tell_are_refused(
    photos: tuple[str, ...], masks: tuple[str, ...], culprits: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="cannot tell which mask is whose") as error:
        found(tmp_path, photos, masks)
    message = str(error.value)
    assert all(name in message for name in culprits) and "\n" not in message
    assert "in folders like the photos'" in message


def test_photos_in_the_folder_of_masks_are_no_masks(tmp_path: Path) -> None:
    photos, masks = touch(tmp_path / "images", "a.png"), touch(tmp_path / "masks", "a.png")
    assert find_masks(tmp_path, photos) == {photos[0]: masks[0]}


def test_a_folder_that_links_to_itself_ends(tmp_path: Path) -> None:
    photos, masks = touch(tmp_path / "images", "a.jpg"), touch(tmp_path / "masks", "a.png")
    (tmp_path / "masks" / "again").symlink_to(tmp_path / "masks")
    assert find_masks(tmp_path / "masks", photos) == {photos[0]: masks[0]}


def test_a_pipe_is_no_mask(tmp_path: Path) -> None:
    photos, masks = touch(tmp_path / "images", "a.jpg"), touch(tmp_path / "masks", "a.png")
    os.mkfifo(tmp_path / "masks" / "a.tif")
    assert find_masks(tmp_path / "masks", photos) == {photos[0]: masks[0]}


def test_no_folder_and_no_mask_are_refused(tmp_path: Path) -> None:
    photos = touch(tmp_path, "a.jpg")
    with pytest.raises(UserError, match="no such folder of masks"):
        find_masks(tmp_path / "masks", photos)
    touch(tmp_path / "masks", "b.png")
    with pytest.raises(UserError, match="no mask in it for any of the 1 photos, such as a.png for a.jpg"):
        find_masks(tmp_path / "masks", photos)
