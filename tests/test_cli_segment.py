"""`tokengroups segment` from photo files to a folder of masks, which `fit` takes; and its answers to bad input."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from iggt_weights import SIZES, published_state, save_color_field
from PIL import Image

from tokengroups.checkpoint import shipped_weights
from tokengroups.cli import reconstruct as reconstruct_command
from tokengroups.cli import segment as segment_command
from tokengroups.cli.main import main
from tokengroups.data.readers.capture import find_capture
from tokengroups.io import pixels, video
from tokengroups.io.cameras import load_named_cameras
from tokengroups.io.pictures import color_name, group_color
from tokengroups.io.pixels import read_mask, read_pixels
from tokengroups.scene import load_scene
from tokengroups.systems.cell_gaussians import CellGaussiansConfig
from tokengroups.systems.iggt import published
from tokengroups.systems.iggt.clustering import ClusteringConfig

SIZE = 64  # of the squares that the network sees; photos of this height are not resized
COLORS = {"wall": (250, 40, 40), "floor": (40, 250, 40), "box": (40, 40, 250), "lamp": (250, 250, 40)}
ORIENTATION = 0x0112


def painted(shift: int, width: int = 96) -> np.ndarray:
    """A wall above a floor with a box and a lamp, as a camera that moves sideways would see them."""
    picture = np.full((SIZE, width, 3), COLORS["wall"], np.uint8)
    picture[40:] = COLORS["floor"]
    picture[20:50, 30 + shift : 50 + shift] = COLORS["box"]
    picture[5:15, 55 - shift : 70 - shift] = COLORS["lamp"]
    return picture


def instance_map(photo: np.ndarray) -> np.ndarray:
    """Number of the colour at every pixel, -1 where the network does not look."""
    ids = np.stack([(photo == color).all(axis=-1) for color in COLORS.values()]).argmax(axis=0)
    left = (photo.shape[1] - SIZE) // 2
    ids[:, :left] = ids[:, left + SIZE :] = -1
    return ids


@pytest.fixture(scope="module")
def colors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a system whose instances are the colours of the photos."""
    folder = tmp_path_factory.mktemp("weights") / "colors"
    return save_color_field(folder, gaussians=CellGaussiansConfig(max_gaussians=8 * SIZE**2))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(3):
        Image.fromarray(painted(4 * index)).save(folder / f"IMG_{index}.png")
    (folder / "notes.txt").write_text("no photo")
    return folder


def segment(*words: object) -> int:
    """Central squares, whose masks are the photos' colours exactly."""
    return main(["segment", "--crop", *map(str, words)])


def content_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "instances.json").read_text())


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_photos_become_masks_that_are_the_same_in_all(
    photos: Path, colors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = photos.parent / "out"
    assert segment(photos, "-o", out, "--weights", colors, "--size", SIZE, "--json", "--video") == 0
    summary, found = json.loads(capsys.readouterr().out), content_of(out)
    assert set(files_in(out)) == {
        "instances.json", "cameras.json", "contact_sheet.jpg", "overlays.mp4",
        *(f"{kind}/IMG_{index}.{suffix}" for kind, suffix in (("masks", "png"), ("depth", "png"), ("overlays", "jpg"))
          for index in range(3)),
    }  # fmt: skip
    masks = [read_pixels(out / "masks" / f"IMG_{index}.png") for index in range(3)]
    truth = [instance_map(painted(4 * index)) for index in range(3)]
    value_of = {number: int(masks[0][truth[0] == number][0]) for number in range(4)}
    assert len(set(value_of.values())) == 4 and all(mask.dtype == np.uint16 for mask in masks)
    for mask, ids in zip(masks, truth, strict=True):
        expected = np.array([value_of[number] for number in range(4)] + [0])[ids]
        np.testing.assert_array_equal(mask, expected)
    instances = {entry["value"]: entry for entry in found["instances"]}
    assert set(instances) == set(value_of.values()) and summary["num_instances"] == 4
    for number, value in value_of.items():
        entry = instances[value]
        areas = {f"IMG_{index}.png": int((ids == number).sum()) for index, ids in enumerate(truth)}
        assert entry["id"] == value - 1 and entry["pixels"] == areas and entry["name"] == ""
        assert entry["color"] == color_name(group_color(entry["id"])) and entry["score"] > 0
        rows, columns = np.nonzero(truth[1] == number)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert entry["boxes"]["IMG_1.png"] == box
        assert areas[entry["best_photo"]] == max(areas.values())
    assert set(summary["seconds"]) == {"masks", "geometry", "files"}
    assert [Path(photo).name for photo in summary["photos"]] == ["IMG_0.png", "IMG_1.png", "IMG_2.png"]
    assert any("cropped from 96x64" in note for note in summary["notes"])


def test_masks_and_depth_cover_whole_photos(photos: Path, colors: Path) -> None:
    out = photos.parent / "out"
    assert main(["segment", *map(str, (photos, "-o", out, "--weights", colors, "--size", 96))]) == 0
    for entry in content_of(out)["photos"]:
        assert entry["crop_box"] == [0, 0, 96, 64]
        assert (read_pixels(out / entry["mask"]) > 0).all() and (read_pixels(out / entry["depth"]) > 0).all()
    for camera in load_named_cameras(out / "cameras.json").cameras:
        np.testing.assert_allclose(camera.intrinsics[:2, 2], [48, 32], rtol=1e-4)


def test_cameras_and_depth_are_those_of_the_scene(photos: Path, colors: Path) -> None:
    out, scene_file = photos.parent / "out", photos.parent / "scene.safetensors"
    options = ("--crop", "--weights", colors, "--size", 2 * SIZE, "--postprocess", "bundle_adjustment")
    assert segment(photos, "-o", out, *options) == 0
    assert main(["reconstruct", "--keep-all", str(photos), "-o", str(scene_file), *map(str, options)]) == 0
    scene = load_scene(scene_file)
    entries = {entry["name"]: entry for entry in content_of(out)["photos"]}
    assert content_of(out)["depth_scale"].startswith("relative")
    for view, camera in enumerate(load_named_cameras(out / "cameras.json").cameras):
        assert camera.name == f"IMG_{view}.png" and camera.size_hw == (SIZE, 96)
        np.testing.assert_allclose(camera.cam_from_world, scene.cameras.cam_from_world[view], atol=1e-7)
        # The network saw twice the central square: its pixel (0, 0) is (16, 0) of the photo.
        moved = np.array([[0.5, 0, 16], [0, 0.5, 0], [0, 0, 1]]) @ scene.cameras.intrinsics[view].double().numpy()
        np.testing.assert_allclose(camera.intrinsics, moved, rtol=1e-6)
    entry = entries["IMG_0.png"]
    depth = read_pixels(out / entry["depth"]) * entry["depth_unit"]
    assert depth.shape == (SIZE, 96) and (depth[:, :16] == 0).all() and (depth[:, 80:] == 0).all()
    # Every Gaussian lies on the surface behind its pixel: photos of 128 pixels, one Gaussian for each of 2x2.
    inside = scene.gaussians.means[: SIZE * SIZE]
    seen = depth[:, 16:80].ravel()
    assert np.abs(np.log(np.median(seen) / np.median(inside[:, 2].numpy()))) < 0.02


def test_fit_takes_the_folder_and_its_groups_are_the_instances(photos: Path, colors: Path) -> None:
    out, scene_file = photos.parent / "out", photos.parent / "fitted.safetensors"
    assert segment(photos, "-o", out, "--weights", colors, "--size", SIZE) == 0
    given = ["--cameras", str(out / "cameras.json"), "--masks", str(out / "masks")]
    assert main(["fit", str(photos), *given, "-o", str(scene_file), "--steps", "3", "--size", "96"]) == 0
    values = sorted(entry["value"] for entry in content_of(out)["instances"])
    assert load_scene(scene_file).group_ids.tolist() == values
    views, paths, _ = find_capture([str(photos)], given[1], given[3]).load(256)
    for path, ids in zip(paths, views.group_ids.numpy(), strict=True):
        mask = read_mask(out / "masks" / f"{path.stem}.png")
        np.testing.assert_array_equal(ids, np.where(mask == 0, -1, mask))


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_fit_sees_turned_photos_as_their_masks_do(tmp_path: Path, colors: Path, orientation: int) -> None:
    exif, back = Image.Exif(), {3: 180, 6: 90, 8: -90}[orientation]
    exif[ORIENTATION] = orientation
    for index, width in enumerate((96, 96)):
        upright = Image.fromarray(painted(4 * index, width))
        upright.rotate(back, expand=True).save(tmp_path / f"{index}.png", exif=exif)
    assert segment(tmp_path, "-o", tmp_path / "out", "--weights", colors, "--size", SIZE) == 0
    out = tmp_path / "out"
    assert {entry["exif_orientation"] for entry in content_of(out)["photos"]} == {orientation}
    files = [str(tmp_path / f"{index}.png") for index in range(2)]
    views, _, _ = find_capture(files, str(out / "cameras.json"), str(out / "masks")).load(256)
    for index, (image, ids) in enumerate(zip(views.images, views.group_ids.numpy(), strict=True)):
        expected = painted(4 * index)
        np.testing.assert_array_equal((image.permute(1, 2, 0) * 255).round().numpy(), expected)
        number = instance_map(expected)
        pairs = {(a, b) for a, b in zip(number.ravel().tolist(), ids.ravel().tolist(), strict=True)}
        assert len(pairs) == 5 == len({a for a, _ in pairs}) == len({b for _, b in pairs}) and (-1, -1) in pairs


def test_photos_of_one_stem_keep_their_masks_apart(
    tmp_path: Path, colors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"in/a.png": 0, "in/a.bmp": 6, "x/a.png": 12}
    for name, shift in places.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(painted(shift)).save(tmp_path / name)
    given = [tmp_path / name for name in places]
    options = ("-o", tmp_path / "out", "--weights", colors, "--size", SIZE)
    assert segment(*given, given[0], *options) == 0
    said = capsys.readouterr().out
    assert "in/a.png, in/a.bmp share a name but for the suffix" in said and "1 photo given more than once" in said
    masks = {"in/a.png": "in/a.png.png", "in/a.bmp": "in/a.bmp.png", "x/a.png": "x/a.png"}
    assert {entry["name"]: entry["mask"] for entry in content_of(tmp_path / "out")["photos"]} == {
        name: f"masks/{mask}" for name, mask in masks.items()
    }
    for name, shift in places.items():
        mask = read_mask(tmp_path / "out" / "masks" / masks[name])
        assert len(np.unique(mask[instance_map(painted(shift)) == 2])) == 1
    given.pop(1)
    assert segment(*given, "-o", tmp_path / "two", *options[2:]) == 0
    capture = find_capture(list(map(str, given)), str(tmp_path / "two/cameras.json"), str(tmp_path / "two/masks"))
    views, paths, _ = capture.load(256)
    assert paths == given
    for path, ids in zip(paths, views.group_ids.numpy(), strict=True):
        mask = read_mask(tmp_path / "two" / "masks" / path.parent.name / "a.png")
        np.testing.assert_array_equal(ids, np.where(mask == 0, -1, mask))


def test_the_same_command_gives_the_same_files(photos: Path, colors: Path) -> None:
    for name in ("one", "two", "two"):  # a second time into the same folder
        assert segment(photos, "-o", photos.parent / name, "--weights", colors, "--size", SIZE) == 0
    assert files_in(photos.parent / "one") == files_in(photos.parent / "two")


def test_only_steps_that_ran_are_recorded(
    photos: Path, colors: Path, random_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for weights, ran in ((colors, ["bundle_adjustment"]), (random_weights, ["bundle_adjustment", "flip_ensemble"])):
        out, steps = photos.parent / weights.name, "bundle_adjustment,flip_ensemble"
        assert segment(photos, "-o", out, "--weights", weights, "--size", SIZE, "--postprocess", steps) == 0
        assert [step["name"] for step in content_of(out)["postprocess"]] == ran
        assert ("note: flip_ensemble: not run" in capsys.readouterr().out) == ("flip_ensemble" not in ran)


def test_any_system_segments(photos: Path, random_weights: Path) -> None:
    for weights in (random_weights, *(set(shipped_weights()) - {"vggt_tiny"})):
        out = photos.parent / f"out_{Path(weights).name}"
        assert segment(photos, "-o", out, "--weights", weights, "--size", SIZE, "--postprocess", "none") == 0
        found = content_of(out)
        pictures = [read_mask(out / entry["mask"]) for entry in found["photos"]]
        counts = np.bincount(np.concatenate([mask[mask > 0] for mask in pictures]))
        assert {entry["value"]: sum(entry["pixels"].values()) for entry in found["instances"]} == {
            value: int(count) for value, count in enumerate(counts) if count
        }


def test_granularity_decides_how_many_instances_there_are(photos: Path, colors: Path) -> None:
    counts = []
    for granularity in (0.5, 1.99):
        out = photos.parent / f"out_{granularity}"
        options = ("--weights", colors, "--size", SIZE, "--granularity", granularity)
        assert segment(photos, "-o", out, *options) == 0
        counts.append(len(content_of(out)["instances"]))
        assert content_of(out)["granularity"] == granularity
    assert counts[0] == 4 > counts[1]


@pytest.mark.parametrize("count", [1, 60])
def test_one_photo_and_sixty(tmp_path: Path, colors: Path, count: int, capsys: pytest.CaptureFixture[str]) -> None:
    for index in range(count):
        Image.fromarray(painted(index % 10)).save(tmp_path / f"{index}.png")
    assert segment(tmp_path, "-o", tmp_path / "out", "--weights", colors, "--size", SIZE, "--json") == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    masks = sorted((tmp_path / "out" / "masks").iterdir())
    assert len(masks) == count and not any("instance" in note for note in notes)
    assert any("only one photo" in note for note in notes) == (count == 1)
    for index in range(count):
        ids, mask = instance_map(painted(index % 10)), read_mask(tmp_path / "out" / "masks" / f"{index}.png")
        assert all(len(np.unique(mask[ids == number])) == 1 for number in np.unique(ids))


def test_max_views_are_evenly_spaced(photos: Path, colors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = photos.parent / "out"
    assert segment(photos, "-o", out, "--weights", colors, "--size", SIZE, "--max-views", 2) == 0
    assert "used 2 of 3 photos" in capsys.readouterr().out
    assert [path.name for path in sorted((out / "masks").iterdir())] == ["IMG_0.png", "IMG_2.png"]


# --- bad input --------------------------------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert segment(*words) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and captured.err.startswith("error: ")
    return captured.err


def test_bad_input_is_one_line_and_writes_nothing(
    photos: Path, colors: Path, random_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, before = photos.parent / "out", files_in(photos)
    empty = photos.parent / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("no photo")
    common = ("-o", out, "--weights", colors)
    assert "no such file or folder" in refused(capsys, photos / "nothing", *common)
    assert "no photo in the folder" in refused(capsys, empty, *common)
    assert "not a photo that can be read" in refused(capsys, photos / "notes.txt", *common)
    assert "lie there; give another folder" in refused(capsys, photos, "-o", photos, "--weights", colors)
    assert "is no folder" in refused(capsys, photos, "-o", photos / "notes.txt", "--weights", colors)
    assert "--size 65: must be a multiple of" in refused(capsys, photos, *common, "--size", 65)
    assert "has no such setting" in refused(
        capsys, photos, "-o", out, "--weights", random_weights, "--granularity", "0.3"
    )
    assert "--granularity 3: choose 0.001 to 2" in refused(capsys, photos, *common, "--granularity", 3)
    assert files_in(photos) == before and not out.exists()


def test_results_are_not_mixed(photos: Path, colors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = photos.parent / "out"
    assert segment(photos, "-o", out, "--weights", colors, "--size", SIZE) == 0
    before = files_in(out)
    line = refused(capsys, photos / "IMG_0.png", "-o", out, "--weights", colors)
    assert "masks/IMG_1.png and 5 more, of other photos or settings" in line and files_in(out) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folders_that_cannot_be_written(photos: Path, colors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos.parent.chmod(0o500)
    try:
        assert "cannot write" in refused(capsys, photos, "-o", photos.parent / "out", "--weights", colors)
    finally:
        photos.parent.chmod(0o700)


def test_a_full_disk_leaves_the_earlier_result(
    photos: Path, colors: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, options = photos.parent / "out", ("--weights", colors, "--size", SIZE)
    assert segment(photos, "-o", out, *options) == 0
    before, written = files_in(out), []

    def fails_late(path: Path, values: np.ndarray) -> None:
        written.append(path)
        if len(written) == 6:
            raise OSError(28, "No space left on device")
        pixels.write_pixels(path, values)

    monkeypatch.setattr("tokengroups.segmentation.folder.write_pixels", fails_late)
    assert "No space left on device" in refused(capsys, photos, "-o", out, *options, "--granularity", "1.5")
    assert files_in(out) == before and not list(photos.parent.glob(".*"))


def test_a_missing_library_is_said_before_the_work(
    photos: Path, colors: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(video.importlib.util, "find_spec", lambda _: None)
    line = refused(capsys, photos, "-o", photos.parent / "out", "--weights", colors, "--video")
    assert 'pip install "tokengroups[video]"' in line and not (photos.parent / "out").exists()


def test_bounds_on_the_command_line_are_those_of_the_settings() -> None:
    low, high = segment_command.GRANULARITY
    for value in (low, high):
        ClusteringConfig(granularity=value)
    for value in (low * 0.99, high * 1.01):
        with pytest.raises(ValueError):
            ClusteringConfig(granularity=value)
    CellGaussiansConfig(max_gaussians=reconstruct_command.MAX_GAUSSIANS)
    with pytest.raises(ValueError):
        CellGaussiansConfig(max_gaussians=reconstruct_command.MAX_GAUSSIANS + 1)


# --- scenes of instances, and published weights ---------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert main([*map(str, words)]) == 0
    return capsys.readouterr().out


def test_a_scene_of_instances_goes_through_all_commands(
    photos: Path, colors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene, folder = photos.parent / "a.safetensors", photos.parent
    common = ("--crop", "--weights", colors, "--size", SIZE)
    summary = json.loads(
        run(capsys, "reconstruct", "--keep-all", photos, "-o", scene, *common, "--max-gaussians", 4000, "--json")
    )
    assert summary["num_groups"] == 4 and summary["num_gaussians"] == 3 * 32 * 32  # 3 * 64 * 64 would be too many
    assert load_scene(scene).provenance["max_gaussians"] == 4000
    least = photos.parent / "least.safetensors"
    said = run(capsys, "reconstruct", "--keep-all", photos, "-o", least, *common, "--max-gaussians", 3)
    assert "-> 1 group, 3 Gaussians in" in said
    assert "1 group, 3 anchors, 3 Gaussians" in run(capsys, "info", least)
    listed = json.loads(run(capsys, "list", scene, "--json"))
    groups = {group["id"]: group for group in (listed if isinstance(listed, list) else listed["groups"])}
    assert set(groups) == {0, 1, 2, 3}
    edited = folder / "b.safetensors"
    run(capsys, "edit", scene, "remove", 3, "move", 2, 0.1, 0, 0, "-o", edited)
    assert load_scene(edited).group_ids.tolist() == [0, 1, 2]
    run(capsys, "render", edited, "-o", folder / "views", "--what", "color,depth,groups")
    drawn = read_pixels(folder / "views" / "group_ids_000.png")
    assert set(np.unique(drawn).tolist()) <= {0, 1, 2, 3} and (drawn == 1).mean() > 0.2
    run(capsys, "export", scene, "-o", folder / "a.ply")
    run(capsys, "import", folder / "a.ply", "-o", folder / "again.safetensors")
    again, first = load_scene(folder / "again.safetensors"), load_scene(scene)
    assert again.group_ids.tolist() == first.group_ids.tolist()
    assert len(again.gaussians.means) == len(first.gaussians.means)
    assert main(["query", str(scene), "a lamp"]) == 2
    assert "semantics" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("weights", "count", "message"),
    [("random", 100, "--max-gaussians: the system of"), ("colors", 2, "3 photos have at least 3 Gaussians")],
)
def test_budgets_that_cannot_be_kept_are_refused(
    photos: Path, colors: Path, random_weights: Path, capsys: pytest.CaptureFixture[str], weights: str, count: int,
    message: str,
) -> None:  # fmt: skip
    chosen = {"random": random_weights, "colors": colors}[weights]
    words = ["reconstruct", photos, "-o", photos.parent / "a.safetensors", "--weights", chosen, "--size", SIZE]
    assert main([*map(str, words), "--max-gaussians", str(count)]) == 2
    line = capsys.readouterr().err
    assert message in line and line.count("\n") == 1 and not (photos.parent / "a.safetensors").exists()


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with the published names at small sizes."""
    (tmp_path / "iggt").mkdir()
    torch.save(published_state(), tmp_path / "iggt" / published.FILE_NAME)
    monkeypatch.setattr(published, "load_published", partial(published.load_published, encoder=SIZES))
    return tmp_path / "iggt" / published.FILE_NAME


@pytest.mark.parametrize("form", ["file", "folder", "hub"])
def test_the_published_checkpoint_by_every_name(
    photos: Path, checkpoint: Path, form: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tokengroups.systems.published.hub_folder", lambda *_: checkpoint.parent)
    monkeypatch.setattr(published, "SIZE", checkpoint.stat().st_size)
    monkeypatch.setattr(published, "SHA256", hashlib.sha256(checkpoint.read_bytes()).hexdigest())
    weights = {"file": checkpoint, "folder": checkpoint.parent, "hub": published.HUB_ID}[form]
    scene, out = photos.parent / "a.safetensors", photos.parent / "out"
    assert main(["reconstruct", "--keep-all", str(photos), "-o", str(scene), "--weights", str(weights)]) == 0
    said = capsys.readouterr()
    assert said.err.count(published.LICENCE) == 1 and f"at {SIZES.image_size}x42" in said.out  # 3:2, padded
    assert load_scene(scene).provenance["licence"] == published.LICENCE
    assert load_scene(scene).provenance["weights"] == Path(weights).name
    edited = photos.parent / "b.safetensors"
    run(capsys, "edit", scene, "move", 0, 0.1, 0, 0, "-o", edited)
    told = run(capsys, "info", edited)
    assert published.LICENCE in told and "move" in told
    assert segment(photos, "-o", out, "--weights", weights, "--size", 42) == 0
    assert capsys.readouterr().err.count(published.LICENCE) == 1
    assert content_of(out)["licence"] == published.LICENCE and content_of(out)["system"] == "iggt"
    assert segment(photos, "-o", out, "--weights", weights, "--size", 64) == 2
    assert "--size 64: must be a multiple of 14" in capsys.readouterr().err


def test_a_licence_goes_with_a_group_into_other_scenes(
    photos: Path, checkpoint: Path, colors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, theirs, both = (photos.parent / f"{name}.safetensors" for name in ("mine", "theirs", "both"))
    run(capsys, "reconstruct", "--keep-all", photos, "-o", mine, "--weights", colors, "--size", SIZE)
    run(capsys, "reconstruct", "--keep-all", photos, "-o", theirs, "--weights", checkpoint)
    assert "none recorded" in run(capsys, "info", mine)
    run(capsys, "edit", mine, "insert", f"{theirs}:0", "--at", 0, 0, 1, "-o", both)
    assert published.LICENCE in run(capsys, "info", both)
    assert json.loads(run(capsys, "info", both, "--json"))["licences"] == [published.LICENCE]


def test_published_weights_with_another_encoder_and_other_checkpoints(
    photos: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = photos.parent / "out"
    assert "leave --encoder out" in refused(
        capsys, photos, "-o", out, "--weights", checkpoint, "--encoder", "vggt_tiny"
    )
    other = checkpoint.with_name("other.pt")
    torch.save({"aggregator.x": torch.ones(1), "semantic_head.norm.weight": torch.ones(1)}, other)
    assert "the checkpoint of another model (aggregator.x, " in refused(capsys, photos, "-o", out, "--weights", other)
    for damaged in (b"\x80\x02X", pickle.dumps({"x": 1}, protocol=4)):
        other.write_bytes(damaged)
        assert "damaged or truncated" in refused(capsys, photos, "-o", out, "--weights", other)
    missing = refused(capsys, photos, "-o", out, "--weights", "sub/missing.pth")  # looks like a hub id, and is none
    assert "there is no such file" in missing and not out.exists()
