"""`tokengroups fit` from files on disk to a scene file, and its answers to bad input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tokengroups.cli.main import main
from tokengroups.data.procedural import generate_room
from tokengroups.data.readers.scannet import write_scannet
from tokengroups.geometry import quaternion_from_rotation
from tokengroups.scene import load_scene

OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
QUICK = ("--steps", 8, "--num-gaussians", 150, "--size", 32)


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small room as `tokengroups data procedural` writes it."""
    folder = tmp_path_factory.mktemp("rooms") / "room"
    write_scannet(folder, generate_room(3, 0, "test", num_views=4, size=32))
    return folder


@pytest.fixture
def capture(tmp_path: Path, recorded: Path) -> Path:
    """The same room as a nerfstudio user has it: images/, masks/ and transforms.json."""
    folder = tmp_path / "capture"
    shutil.copytree(recorded / "color", folder / "images")
    shutil.copytree(recorded / "instance-filt", folder / "masks")
    pinhole = np.loadtxt(recorded / "intrinsic" / "intrinsic_color.txt")
    frames = [
        {
            "file_path": f"images/{view}.jpg",
            "transform_matrix": (np.loadtxt(recorded / "pose" / f"{view}.txt") @ OPENCV_FROM_OPENGL).tolist(),
        }
        for view in range(4)
    ]
    shared = {"w": 32, "h": 32, "fl_x": pinhole[0, 0], "fl_y": pinhole[1, 1]}
    shared |= {"cx": pinhole[0, 2] + 0.5, "cy": pinhole[1, 2] + 0.5}
    (folder / "transforms.json").write_text(json.dumps({**shared, "frames": frames}))
    return folder


def fit(*words: object) -> int:
    return main(["fit", *map(str, words)])


def test_a_capture_becomes_a_scene(capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = capture / "scene.safetensors"
    assert fit(capture, "-o", output, *QUICK, "--json", "--hold-out", 3) == 0
    summary = json.loads(capsys.readouterr().out)
    scene = load_scene(output)
    assert summary["photos"] == scene.provenance["photos"] == ["0.jpg", "1.jpg", "3.jpg"]
    assert summary["num_groups"] == len(scene.group_ids) and summary["notes"] == []
    assert summary["held_out"]["num_photos"] == 1 and summary["held_out"]["psnr"] > 5
    masks = [np.asarray(Image.open(capture / "masks" / f"{view}.png")) for view in range(4)]
    assert set(scene.group_ids.tolist()) <= set(np.unique(masks).tolist()) - {0}
    pose = json.loads((capture / "transforms.json").read_text())["frames"][0]["transform_matrix"]
    np.testing.assert_allclose(scene.provenance["world_from_scene"], np.array(pose) @ OPENCV_FROM_OPENGL, atol=1e-6)


def test_recorded_rooms_and_captures_give_the_same_scene(recorded: Path, capture: Path, tmp_path: Path) -> None:
    """ScanNet's pixel centre and ids are converted; names of the instances come along."""
    assert fit(recorded, "-o", tmp_path / "a.safetensors", *QUICK) == 0
    assert fit(capture, "-o", tmp_path / "b.safetensors", *QUICK) == 0
    one, other = load_scene(tmp_path / "a.safetensors"), load_scene(tmp_path / "b.safetensors")
    torch.testing.assert_close(one.gaussians.means, other.gaussians.means, rtol=1e-3, atol=1e-3)
    assert (one.group_ids + 1).tolist() == other.group_ids.tolist()
    assert len(one.group_names) == len(one.group_ids) and "floor" in one.group_names
    assert other.group_names == ()


def write_colmap(folder: Path, transforms: Path) -> None:
    """The cameras of a transforms.json as a COLMAP model in text."""
    content = json.loads(transforms.read_text())
    folder.mkdir(parents=True)
    pinhole = " ".join(repr(content[key]) for key in ("w", "h", "fl_x", "fl_y", "cx", "cy"))
    (folder / "cameras.txt").write_text(f"1 PINHOLE {pinhole}\n")
    lines = []
    for number, frame in enumerate(content["frames"], start=1):
        pose = torch.tensor(np.linalg.inv(np.array(frame["transform_matrix"]) @ OPENCV_FROM_OPENGL))
        values = [*quaternion_from_rotation(pose[:3, :3]).tolist(), *pose[:3, 3].tolist()]
        name = Path(frame["file_path"]).name
        lines += [f"{number} {' '.join(map(repr, values))} 1 {name}", ""]
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    (folder / "points3D.txt").write_text("")


def test_colmap_and_transforms_give_the_same_scene(capture: Path, tmp_path: Path) -> None:
    assert fit(capture, "-o", tmp_path / "a.safetensors", *QUICK) == 0
    write_colmap(capture / "sparse" / "0", capture / "transforms.json")
    (capture / "transforms.json").unlink()
    assert fit(capture, "-o", tmp_path / "b.safetensors", *QUICK) == 0
    one, other = load_scene(tmp_path / "a.safetensors"), load_scene(tmp_path / "b.safetensors")
    torch.testing.assert_close(one.gaussians.means, other.gaussians.means, rtol=1e-3, atol=1e-3)
    assert one.group_ids.tolist() == other.group_ids.tolist()


def test_options_name_what_lies_elsewhere(capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = capture.parent
    for name in ("images", "masks", "transforms.json"):
        shutil.move(capture / name, elsewhere / f"my_{name}")
    output = elsewhere / "scene.safetensors"
    cameras = ("--cameras", elsewhere / "my_transforms.json")
    words = (elsewhere / "my_images", *cameras, "--masks", elsewhere / "my_masks", "--max-views", 2, *QUICK)
    assert fit(*words, "-o", output) == 0
    answer = capsys.readouterr().out
    assert "note: used 2 of 4 photos" in answer and "2 photos at 32x32" in answer and str(output) in answer


def test_without_masks_the_groups_are_clusters(capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(capture / "masks")
    for name in ("a", "b"):
        assert fit(capture, "-o", capture / f"{name}.safetensors", *QUICK, "--hold-out", 3) == 0
        answer = capsys.readouterr().out
        assert "note: no masks: the groups are clusters of positions; --masks DIR gives instances" in answer
        assert "AP of the masks unknown" in answer
    one, other = load_scene(capture / "a.safetensors"), load_scene(capture / "b.safetensors")
    assert one.provenance["groups"] == "clusters of positions"
    assert one.group_ids.tolist() == list(range(1, len(one.group_ids) + 1)) and len(one.group_ids) > 1
    assert torch.equal(one.assignment, other.assignment) and torch.equal(one.gaussians.means, other.gaussians.means)


@pytest.mark.parametrize("kind", ["transforms", "colmap"])
def test_render_sees_a_fit_from_the_cameras_of_its_photos(kind: str, capture: Path) -> None:
    """The scene's world is the first photo's camera; the cameras of the file are moved there."""
    output, cameras = capture / "scene.safetensors", capture / "transforms.json"
    assert fit(capture, "-o", output, *QUICK) == 0
    if kind == "colmap":
        write_colmap(capture.parent / "model", cameras)
        cameras = capture.parent / "model"
    pictures = []
    for name, words in (("context", "context"), ("file", str(cameras))):
        assert main(["render", str(output), "--camera", words, "-o", str(capture / name)]) == 0
        paths = sorted((capture / name).glob("color_*.png"))
        pictures.append(np.stack([np.asarray(Image.open(path)).astype(int) for path in paths]))
    context, from_file = pictures
    assert context.shape == from_file.shape == (4, 32, 32, 3) and context.std() > 10
    assert np.abs(context - from_file).max() <= 2  # roundings of poses
    assert np.abs(context[0] - context[3]).mean() > 5  # other cameras would be seen


def test_bent_photos_are_fitted_straight(capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _changed(capture, '"w": ', '"k1": 0.3, "p2": 0.01, "w": ')
    output = capture / "scene.safetensors"
    assert fit(capture, "-o", output, *QUICK, "--json", "--hold-out", 3) == 0
    assert any("lens distortion undone: 0.jpg" in note for note in json.loads(capsys.readouterr().out)["notes"])
    photo = load_scene(output).provenance["photos"][1]
    assert photo["name"] == "1.jpg" and photo["lens"]["radial"][0] == 0.3
    command = ["export", output, "--photos", capture / "images", "-o", capture / "out", "--format", "transforms"]
    assert main(list(map(str, command))) == 0
    assert sorted(path.name for path in (capture / "out" / "images").iterdir()) == ["0.jpg", "1.jpg", "3.jpg"]
    copied, given = (np.asarray(Image.open(folder / "images" / "1.jpg")) for folder in (capture / "out", capture))
    assert copied.shape == given.shape and (copied[0, 0] > 240).all() and not (given[0, 0] > 240).all()


def test_ignored_pixels_do_not_count(capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (capture / "people").mkdir()
    for view in range(4):
        mask = np.full((32, 32), 255, np.uint8)
        mask[:, :8] = 0
        Image.fromarray(mask).save(capture / "people" / f"{view}.jpg.png")
    assert fit(capture, "-o", capture / "a.safetensors", "--ignore", capture / "people", *QUICK, "--json") == 0
    assert "25.0% of the pixels are ignored" in json.loads(capsys.readouterr().out)["notes"]
    assert fit(capture, "-o", capture / "b.safetensors", "--ignore", capture / "nothing", *QUICK) == 2
    assert "nothing: no such folder of masks" in capsys.readouterr().err


def test_values_of_no_instance_may_be_several(capture: Path) -> None:
    masks = [np.asarray(Image.open(capture / "masks" / f"{view}.png")) for view in range(4)]
    values, counts = np.unique(masks, return_counts=True)
    gone = values[counts.argsort()[-2:]].tolist()  # the two largest
    for words in (("--unlabelled", ",".join(map(str, gone))), [w for v in gone for w in ("--unlabelled", v)]):
        assert fit(capture, "-o", capture / "scene.safetensors", *QUICK, *words) == 0
        assert set(load_scene(capture / "scene.safetensors").group_ids.tolist()) <= set(values.tolist()) - set(gone)


def test_lists_renders_and_edits_work_on_it(capture: Path) -> None:
    output = capture / "scene.safetensors"
    assert fit(capture, "-o", output, *QUICK) == 0
    gone = str(load_scene(output).group_ids.tolist()[0])
    for words in (
        ["list", str(output)],
        ["render", str(output), "-o", str(capture / "frames"), "--what", "color,groups"],
        ["edit", str(output), "remove", gone, "-o", str(capture / "edited.safetensors")],
        ["export", str(output), "-o", str(capture / "scene.ply")],
    ):
        assert main(words) == 0
    assert len(load_scene(capture / "edited.safetensors").group_ids) == len(load_scene(output).group_ids) - 1


def test_photos_and_cameras_without_each_other_are_noted(capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (capture / "images" / "1.jpg").rename(capture / "images" / "x.jpg")
    (capture / "masks" / "2.png").unlink()
    words = (capture / "images", "--cameras", capture / "transforms.json", "--masks", capture / "masks")
    assert fit(*words, "-o", capture / "scene.safetensors", *QUICK) == 0
    answer = capsys.readouterr().out
    assert "left out 1 photo without a camera: x.jpg" in answer
    assert "left out 1 camera without a photo: images/1.jpg" in answer
    assert "no mask for 1 photos" in answer and "3 photos at 32x32" in answer


def _no_cameras(folder: Path) -> list[object]:
    return [folder / "images"]


def _missing_masks(folder: Path) -> list[object]:
    return [folder, "--masks", folder / "none"]


def _no_photos(folder: Path) -> list[object]:
    shutil.rmtree(folder / "images")
    (folder / "images").mkdir()
    return [folder]


def _text_as_mask(folder: Path) -> list[object]:
    (folder / "masks" / "1.png").write_text("chair")
    return [folder]


def _text_as_photo(folder: Path) -> list[object]:
    (folder / "images" / "1.jpg").write_text("chair")
    return [folder]


def _nan(folder: Path) -> list[object]:
    path = folder / "transforms.json"
    path.write_text(path.read_text().replace('"fl_x": ', '"fl_x": NaN, "old": '))
    return [folder]


def _broken(folder: Path) -> list[object]:
    (folder / "transforms.json").write_text("{")
    return [folder]


def _no_such_cameras(folder: Path) -> list[object]:
    return [folder, "--cameras", folder / "none.json"]


def _text_as_cameras(folder: Path) -> list[object]:
    return [folder, "--cameras", folder / "images" / "0.jpg"]


def _no_such_photos(folder: Path) -> list[object]:
    return [folder / "nothing"]


def _no_steps(folder: Path) -> list[object]:
    return [folder, "--steps", 0]


def _photo_as_points(folder: Path) -> list[object]:
    return [folder, "--points", folder / "images" / "0.jpg"]


def _changed(folder: Path, old: str, new: str) -> list[object]:
    path = folder / "transforms.json"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    return [folder]


def _other_lens(folder: Path) -> list[object]:
    return _changed(folder, '"w": ', '"camera_model": "EQUIRECTANGULAR", "w": ')


def _distortion_as_text(folder: Path) -> list[object]:
    return _changed(folder, '"w": ', '"k1": "0.05", "w": ')


def _deep(folder: Path) -> list[object]:
    return _changed(folder, '"w": ', f'"x": {"[" * 60_000}{"]" * 60_000}, "w": ')


def _same_stems(folder: Path) -> list[object]:
    for view, place in ((0, "cam0"), (1, "cam1")):
        (folder / "images" / place).mkdir()
        (folder / "images" / f"{view}.jpg").rename(folder / "images" / place / "0.jpg")
    text = (folder / "transforms.json").read_text().replace("images/0.jpg", "images/cam0/0.jpg")
    (folder / "transforms.json").write_text(text.replace("images/1.jpg", "images/cam1/0.jpg"))
    return [folder]


def _no_mask_value(folder: Path) -> list[object]:
    return [folder, "--unlabelled", "0,wall"]


def _huge_seed(folder: Path) -> list[object]:
    return [folder, "--seed", 10**30]


def _huge_size(folder: Path) -> list[object]:
    return [folder, "--size", 10**30]


def _long_name(folder: Path) -> list[object]:
    return [folder / ("a" * 300)]


def _small(folder: Path) -> list[object]:
    return [folder, "--size", 8]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_no_cameras, "no cameras given"),
        (_missing_masks, "no such folder of masks"),
        (_no_photos, "no photo in the folder"),
        (_text_as_mask, "1.png: not a picture"),
        (_text_as_photo, "1.jpg: not a photo"),
        (_nan, "nan is not finite"),
        (_broken, "not JSON"),
        (_no_such_cameras, "there is no such file; give a transforms.json"),
        (_no_such_photos, "nothing: no such file or folder"),
        (_text_as_cameras, "give a transforms.json, a COLMAP model (its folder) or a cameras.json"),
        (_other_lens, "camera model EQUIRECTANGULAR is not read; undistort the photos first"),
        (_distortion_as_text, "'0.05' is no number"),
        (_deep, "nested too deeply"),
        (_same_stems, "cannot tell which mask is whose: 0.png for "),
        (_no_mask_value, "--unlabelled 0,wall: give mask values with commas between"),
        (_huge_seed, "--seed 1000000000000000000000000000000: choose 0 to"),
        (_huge_size, "--size 1000000000000000000000000000000: choose 32 to"),
        (_long_name, "no such file or folder"),
        (_no_steps, "--steps 0: choose 1 to"),
        (_photo_as_points, "not a PLY file"),
        (_small, "--size 8: choose 32 to 2560"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    spoil: Callable[[Path], list[object]], message: str, capture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = capture / "scene.safetensors"
    assert fit(*spoil(capture), "-o", output) == 2
    answer = capsys.readouterr().err
    assert answer.startswith("error: ") and answer.count("\n") == 1, answer
    assert message in answer
    assert not output.exists()


def test_unwritable_output_is_refused_before_anything_is_read(tmp_path: Path, capsys) -> None:
    assert fit(tmp_path / "nothing", "-o", tmp_path / "missing" / "x.safetensors") == 2
    assert "there is no folder" in capsys.readouterr().err


def test_ctrl_c_leaves_nothing_behind(capture: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tokengroups.fitting.optimisation.explore", interrupt)
    output = capture / "scene.safetensors"
    assert fit(capture, "-o", output, *QUICK) == 130
    assert "interrupted" in capsys.readouterr().err
    assert sorted(path.name for path in capture.iterdir()) == ["images", "masks", "transforms.json"]
