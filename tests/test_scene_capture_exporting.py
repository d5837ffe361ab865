"""Captures that a scene is exported as: read back by our readers and by pycolmap; photos and cameras agree."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import random_scene
from tolerances import tolerance

from tokengroups.cli.main import main
from tokengroups.data.readers.capture import find_capture
from tokengroups.errors import UserError
from tokengroups.gaussians import color_from_sh
from tokengroups.io.colmap import load_colmap
from tokengroups.io.colmap_writing import save_colmap
from tokengroups.io.images import load_photos
from tokengroups.io.points import PointCloud, load_points, save_points
from tokengroups.io.posed_cameras import CameraSet, PosedCamera
from tokengroups.io.transforms import load_transforms, save_transforms
from tokengroups.scene import CAPTURES, export_capture, save_scene
from tokengroups.types import TokenScene

FORMS = ("colmap", "colmap-text", "transforms")
SIZE = 48


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A landscape photo that EXIF turns upright, and a PNG with white space in its name."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(rng.integers(0, 256, (90, 120, 3), np.uint8)).save(folder / "turned.jpg", exif=turned)
    Image.fromarray(rng.integers(0, 256, (100, 160, 3), np.uint8)).save(folder / "my photo.png")
    return folder


@pytest.fixture
def scene(photos: Path) -> TokenScene:
    """A scene of the central squares of the photos, with poses that are no whole numbers."""
    loaded = load_photos([photos / "turned.jpg", photos / "my photo.png"], SIZE, square=True)
    rows = [
        {"name": each.path.name, "size_hw": list(each.size_hw), "crop_box": list(each.crop_box)}
        for each in loaded.photos
    ]
    scene = random_scene()
    angle = torch.tensor(0.3, dtype=torch.float64)
    poses = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    poses[1, :3, :3] = torch.tensor(
        [[angle.cos(), 0, angle.sin()], [0, 1, 0], [-angle.sin(), 0, angle.cos()]], dtype=torch.float64
    )
    poses[1, :3, 3] = torch.tensor([0.1, -0.2, 1 / 3])
    pinhole = torch.tensor([[40.0, 0, 25], [0, 41, 23.5], [0, 0, 1]]).repeat(2, 1, 1)
    cameras = replace(scene.cameras, cam_from_world=poses.float(), intrinsics=pinhole, size_hw=(SIZE, SIZE))
    return replace(scene, cameras=cameras, provenance={"photos": rows})


def load(folder: Path, form: str) -> CameraSet:
    return load_transforms(folder / "transforms.json") if form == "transforms" else load_colmap(folder)


def pixel(camera: PosedCamera, point: torch.Tensor) -> np.ndarray:
    x, y, z = camera.intrinsics @ (camera.cam_from_world @ [*point.double().tolist(), 1.0])[:3]
    return np.array([x / z, y / z])


@pytest.mark.parametrize("form", FORMS)
def test_a_capture_comes_back(scene: TokenScene, photos: Path, form: str, tmp_path: Path) -> None:
    done = export_capture(scene, tmp_path / "out", form, [str(photos)])
    assert all(path.is_file() for path in done.files) and done.notes == ()
    written = {path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert written == {path.relative_to(tmp_path / "out") for path in done.files}
    found = load(tmp_path / "out", form)
    names = [f"{'images/' if form == 'transforms' else ''}{name}" for name in ("turned.jpg", "my_photo.png")]
    assert [camera.name for camera in found.cameras] == names
    assert [camera.size_hw for camera in found.cameras] == [(120, 90), (100, 160)]
    for view, camera in enumerate(found.cameras):
        expected = scene.cameras.cam_from_world[view].numpy()
        np.testing.assert_allclose(camera.cam_from_world, expected, **tolerance("float32"))
    solid = scene.gaussians.opacities >= 0.1
    assert found.points is not None
    torch.testing.assert_close(found.points.positions.float(), scene.gaussians.means[solid], rtol=0, atol=0)
    colors = color_from_sh(scene.gaussians.sh[solid])
    torch.testing.assert_close(found.points.colors, colors, rtol=0, atol=0.51 / 255)


@pytest.mark.parametrize("form", FORMS)
def test_the_whole_photo_shows_points_where_the_view_does(
    scene: TokenScene, photos: Path, form: str, tmp_path: Path
) -> None:
    """The views are central squares: 90 of 90x120 (upright) from row 15, 100 of 160x100 from column 30."""
    export_capture(scene, tmp_path / "out", form, [str(photos)])
    point = torch.tensor([0.2, 0.1, 2.5])
    places = [(0, 15, 90), (30, 0, 100)]
    for view, (camera, (left, top, side)) in enumerate(zip(load(tmp_path / "out", form).cameras, places, strict=True)):
        seen = PosedCamera(
            "",
            scene.cameras.cam_from_world[view].double().numpy(),
            scene.cameras.intrinsics[view].double().numpy(),
            None,
        )
        expected = pixel(seen, point) * side / SIZE + (left, top)
        np.testing.assert_allclose(pixel(camera, point), expected, rtol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_photos_are_upright_for_everyone(scene: TokenScene, photos: Path, form: str, tmp_path: Path) -> None:
    export_capture(scene, tmp_path / "out", form, [str(photos)])
    copy = Image.open(tmp_path / "out" / "images" / "turned.jpg")
    assert copy.size == (90, 120) and copy.getexif().get(0x0112) is None
    upright = Image.open(photos / "turned.jpg").transpose(Image.Transpose.ROTATE_270)
    assert np.abs(np.asarray(copy, float) - np.asarray(upright, float)).mean() < 3  # JPEG again
    plain = tmp_path / "out" / "images" / "my_photo.png"
    assert plain.read_bytes() == (photos / "my photo.png").read_bytes()


@pytest.mark.parametrize("form", FORMS)
def test_fit_takes_it(scene: TokenScene, photos: Path, form: str, tmp_path: Path) -> None:
    export_capture(scene, tmp_path / "out", form, [str(photos)])
    capture = find_capture([str(tmp_path / "out")], None, None, None, (0,))
    assert [path.name for path, _ in capture.pairs] == ["my_photo.png", "turned.jpg"]
    assert capture.points is not None
    views, paths, _ = replace(capture, pairs=capture.pairs[1:]).load(60)  # one shape at a time
    assert [path.name for path in paths] == ["turned.jpg"] and views.images.shape[-2:] == (60, 45)


@pytest.mark.parametrize("form", FORMS[:2])
def test_pycolmap_reads_the_model(scene: TokenScene, photos: Path, form: str, tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap", reason="pycolmap is not installed")
    export_capture(scene, tmp_path / "out", form, [str(photos)])
    model, ours = pycolmap.Reconstruction(tmp_path / "out" / "sparse" / "0"), load(tmp_path / "out", form)
    assert model.num_images() == 2 and ours.points is not None and model.num_points3D() == len(ours.points.positions)
    images = sorted(model.images.values(), key=lambda image: image.image_id)
    for camera, image in zip(ours.cameras, images, strict=True):
        lens = model.cameras[image.camera_id]
        assert image.name == camera.name and (lens.height, lens.width) == camera.size_hw
        np.testing.assert_allclose(lens.calibration_matrix(), camera.intrinsics, **tolerance("float64"))
        np.testing.assert_allclose(image.cam_from_world().matrix(), camera.cam_from_world[:3], atol=1e-7)
    places = np.stack([model.points3D[i].xyz for i in sorted(model.points3D)])
    assert np.array_equal(places, ours.points.positions.numpy())


def test_cameras_alone_are_for_the_recorded_photos(scene: TokenScene, photos: Path, tmp_path: Path) -> None:
    done = export_capture(scene, tmp_path / "out", "transforms")
    export_capture(scene, tmp_path / "with", "transforms", [str(photos)])
    assert done.notes == ("no photos given: the cameras are for the whole, upright ones; put these into images/",)
    both = [json.loads((tmp_path / name / "transforms.json").read_text()) for name in ("out", "with")]
    assert both[0] == both[1]
    unknown = replace(scene, provenance={"photos": ["b\n.png", "../a b.png"], "edits": [{}]})
    done = export_capture(unknown, tmp_path / "unknown", "colmap-text")
    assert [note.split(":")[0] for note in done.notes] == ["the scene was edited", "no photos given"]
    assert [camera.name for camera in load_colmap(tmp_path / "unknown").cameras] == ["b_.png", "a_b.png"]
    assert load_colmap(tmp_path / "unknown").cameras[0].size_hw == (SIZE, SIZE)


def test_photos_of_a_fit_are_taken_as_stored(scene: TokenScene, photos: Path, tmp_path: Path) -> None:
    """`fit` records names alone and resizes photos as they are stored: 90x120 to 36x48."""
    stored = replace(scene.cameras, size_hw=(36, 48))
    (photos / "my photo.png").unlink()
    Image.open(photos / "turned.jpg").save(photos / "b.jpg")
    fitted = replace(scene, cameras=stored, provenance={"photos": ["turned.jpg", "b.jpg"]})
    export_capture(fitted, tmp_path / "out", "transforms", [str(photos)])
    assert Image.open(tmp_path / "out" / "images" / "turned.jpg").size == (120, 90)
    first = load(tmp_path / "out", "transforms").cameras[0]
    np.testing.assert_allclose(first.intrinsics, np.diag([2.5, 2.5, 1]) @ scene.cameras.intrinsics[0].double().numpy())


def test_photos_of_one_name_get_names_of_their_own(scene: TokenScene, photos: Path, tmp_path: Path) -> None:
    (photos / "b").mkdir()
    (photos / "my photo.png").rename(photos / "b" / "turned.jpg")
    rows = [{**row, "name": "turned.jpg"} for row in scene.provenance["photos"]]
    words = [str(photos / "turned.jpg"), str(photos / "b" / "turned.jpg")]
    done = export_capture(replace(scene, provenance={"photos": rows}), tmp_path / "out", "colmap", words)
    assert [path.name for path in done.files[3:]] == ["turned.jpg", "001_turned.jpg"]
    assert [camera.name for camera in load(tmp_path / "out", "colmap").cameras] == ["turned.jpg", "001_turned.jpg"]


def test_wrong_places_and_photos_are_refused(scene: TokenScene, photos: Path, tmp_path: Path) -> None:
    export_capture(scene, tmp_path / "out", "colmap", [str(photos)])
    export_capture(scene, tmp_path / "out", "colmap", [str(photos)])  # its own may be replaced
    with pytest.raises(UserError, match="has a model in the other format"):
        export_capture(scene, tmp_path / "out", "colmap-text")
    (tmp_path / "own").mkdir()
    photos.rename(tmp_path / "own" / "images")
    with pytest.raises(UserError, match=r"turned.jpg lies where its copy would be written; give another folder"):
        export_capture(scene, tmp_path / "own", "colmap", [str(tmp_path / "own" / "images")])
    Image.new("RGB", (100, 100), "red").save(tmp_path / "own" / "images" / "turned.jpg")
    with pytest.raises(UserError, match="but the scene was made from 90x120"):
        export_capture(scene, tmp_path / "new", "colmap", [str(tmp_path / "own" / "images")])
    assert not (tmp_path / "new").exists()
    with pytest.raises(UserError, match="no format 'ply'; choose from colmap, colmap-text, transforms"):
        export_capture(scene, tmp_path / "new", "ply")


def test_the_command(scene: TokenScene, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_scene(tmp_path / "a.safetensors", scene)
    words = ["export", str(tmp_path / "a.safetensors"), "-o", str(tmp_path / "out")]
    assert main([*words, "--format", "colmap", "--photos", str(photos)]) == 0
    out = capsys.readouterr().out
    assert "wrote cameras.bin, images.bin, points3D.bin of 2 cameras" in out and "wrote 2 photos to" in out
    assert main([*words, "--format", "colmap", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 3
    for wrong, line in (
        (["--format", "colmap", "--groups", "g"], "--groups is for files of splats"),
        (["--photos", str(photos)], "--photos is for --format"),
        ([], "the file name must end in .ply, .spz, .glb; for folders see --format"),
    ):
        assert main([*words, *wrong]) == 2
        assert line in capsys.readouterr().err


def test_the_commands_choices_are_the_formats() -> None:
    from tokengroups.cli.export import FORMATS

    assert FORMATS == CAPTURES == FORMS


def test_every_bit_of_cameras_and_points_comes_back(tmp_path: Path) -> None:
    """Far from the origin, as surveyors' coordinates; text and binary."""
    rng = np.random.default_rng(0)
    pose = np.eye(4)
    pose[:3, :3] = [[0, 0, 1], [0, -1, 0], [1, 0, 0]]
    pose[:3, 3] = [500000.03, -4000000.05, 1 / 3]
    pinhole = np.array([[50.1, 0, 1 / 3], [0, 40.7, 20.3], [0, 0, 1]])
    cameras = [PosedCamera(name, pose, pinhole, (48, 64)) for name in ("a.jpg", "b.jpg")]
    points = PointCloud(
        torch.from_numpy(1e6 * rng.random((5, 3))), torch.from_numpy(rng.integers(0, 256, (5, 3)) / 255)
    )
    for binary in (True, False):
        folder = tmp_path / str(binary)
        folder.mkdir()
        save_colmap(folder, cameras, points, binary)
        found = load_colmap(folder)
        assert found.points is not None and torch.equal(found.points.positions, points.positions)
        assert np.array_equal(found.cameras[1].intrinsics, pinhole)
        np.testing.assert_allclose(found.cameras[1].cam_from_world, pose, rtol=1e-12, atol=1e-12)
    save_transforms(tmp_path / "t.json", cameras)
    found = load_transforms(tmp_path / "t.json")
    np.testing.assert_allclose(found.cameras[0].cam_from_world, pose, rtol=1e-9, atol=1e-9)
    assert found.points is None and np.array_equal(found.cameras[0].intrinsics, pinhole)
    save_points(tmp_path / "p.ply", points)
    again = load_points(tmp_path / "p.ply")
    torch.testing.assert_close(again.positions, points.positions, rtol=1e-7, atol=0)
    torch.testing.assert_close(again.colors.double(), points.colors, rtol=1e-6, atol=1e-6)


def test_transforms_have_opengl_axes(tmp_path: Path) -> None:
    """A camera at the origin that looks along +z, y down, has y up and z backward."""
    save_transforms(tmp_path / "t.json", [PosedCamera("a.png", np.eye(4), np.diag([9.0, 9, 1]), (4, 6))], "p.ply")
    content = json.loads((tmp_path / "t.json").read_text())
    assert content["ply_file_path"] == "p.ply"
    assert content["frames"][0]["transform_matrix"] == np.diag([1.0, -1, -1, 1]).tolist()
    assert (content["frames"][0]["w"], content["frames"][0]["h"], content["frames"][0]["fl_x"]) == (6, 4, 9.0)
