"""`tokengroups reconstruct` from photo files to a scene file, and its answers to bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tokengroups.cli.arguments import MAX_MEGAPIXELS
from tokengroups.cli.main import main
from tokengroups.data.procedural.generate import generate_room
from tokengroups.io import decoding
from tokengroups.io.images import load_photos
from tokengroups.postprocess import STEPS, build_steps
from tokengroups.postprocess.photometric import PhotometricRefinement
from tokengroups.scene import load_scene
from tokengroups.systems import load_model

ROOT = Path(__file__).parents[1]
ORIENTATION = 0x0112


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three photos as phones make them: rotated by EXIF, of different sizes, one with alpha."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    for name, shape in (("IMG_2.jpg", (96, 128, 3)), ("IMG_10.jpg", (200, 150, 3)), ("IMG_3.png", (80, 80, 4))):
        image = Image.fromarray(rng.integers(0, 256, shape, np.uint8))
        image.save(folder / name, **({"exif": exif} if name == "IMG_2.jpg" else {}))
    return folder


def reconstruct(*words: object) -> int:
    """Photos of noise fit each other as little as those of two rooms."""
    return main(["reconstruct", *map(str, words), "--keep-all"])


def test_photos_become_a_scene(photos: Path, random_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = photos.parent / "scene.safetensors"
    assert reconstruct(photos, "-o", output, "--weights", random_weights, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    scene = load_scene(output)
    assert summary["num_groups"] == len(scene.group_ids) >= 1
    assert summary["num_gaussians"] == len(scene.gaussians.means) == 64 * 4
    assert [Path(photo).name for photo in summary["photos"]] == ["IMG_2.jpg", "IMG_3.png", "IMG_10.jpg"]
    assert "IMG_2.jpg: turned upright" in "\n".join(summary["notes"])
    assert "transparency" in "\n".join(summary["notes"])
    assert [photo["name"] for photo in scene.provenance["photos"]] == ["IMG_2.jpg", "IMG_3.png", "IMG_10.jpg"]
    torch.testing.assert_close(scene.cameras.cam_from_world[0], torch.eye(4))


def test_same_command_gives_the_same_scene(photos: Path, random_weights: Path) -> None:
    first, second, other = (photos.parent / f"{name}.safetensors" for name in "abc")
    for path, seed in ((first, 3), (second, 3), (other, 4)):
        assert reconstruct(photos, "-o", path, "--weights", random_weights, "--seed", seed) == 0
    one, two = load_scene(first), load_scene(second)
    assert one.provenance == two.provenance
    for name, values in vars(one.gaussians).items():
        assert torch.equal(values, getattr(two.gaussians, name)), name
    assert not torch.equal(load_scene(first).anchors, load_scene(other).anchors)


def test_fast_is_recorded(photos: Path, random_weights: Path) -> None:
    output = photos.parent / "scene.safetensors"
    for words, expected in (((), None), (("--fast",), True)):
        assert reconstruct(photos, "-o", output, "--weights", random_weights, *words) == 0
        assert load_scene(output).provenance.get("fast") is expected


def test_focal_length_in_pixels_or_from_exif(
    photos: Path, random_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 26  # mm, 35 mm equivalent
    Image.new("RGB", (120, 90), "gray").save(photos.parent / "phone.jpg", exif=exif)
    output = photos.parent / "scene.safetensors"
    common = ("--crop", "-o", output, "--weights", random_weights, "--size", 64)
    assert reconstruct(photos.parent / "phone.jpg", *common, "--focal", "exif") == 0
    expected = 26 / (36**2 + 24**2) ** 0.5 * (120**2 + 90**2) ** 0.5 * 64 / 90
    intrinsics = load_scene(output).cameras.intrinsics
    torch.testing.assert_close(intrinsics[0, 0, 0], torch.tensor(expected).float(), rtol=1e-3, atol=0)
    torch.testing.assert_close(intrinsics[0, :2, 2], torch.tensor([32.0, 32.0]))
    assert "--focal exif" not in capsys.readouterr().out
    assert reconstruct(photos.parent / "phone.jpg", *common) == 0
    assert "--focal exif makes a better scene" in capsys.readouterr().out
    assert reconstruct(photos.parent / "phone.jpg", *common, "--focal", 90) == 0
    torch.testing.assert_close(load_scene(output).cameras.intrinsics[0, 0, 0], torch.tensor(64.0), rtol=1e-3, atol=0)
    capsys.readouterr()
    output.unlink()
    for focal, message in (
        ("exif", "IMG_2.jpg: its EXIF data have no 35 mm"),
        ("5", "a focal length of 5 pixels is not plausible"),
        ("nan", "not plausible"),
    ):
        assert reconstruct(photos, *common, "--focal", focal) != 0
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        reconstruct(photos, *common, "--focal", "long")
    assert "neither a number of pixels nor 'exif'" in capsys.readouterr().err
    assert not output.exists()


def test_postprocessing_is_a_choice(photos: Path, random_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes = []
    for choice in ("none", "photometric_refinement"):
        path = photos.parent / f"{choice}.safetensors"
        arguments = (photos, "-o", path, "--weights", random_weights, "--postprocess", choice, "--json")
        assert reconstruct(*arguments) == 0
        scenes.append(load_scene(path))
        assert json.loads(capsys.readouterr().out)["postprocess"] == [choice] * (choice != "none")
    recorded = [scene.provenance["postprocess"] for scene in scenes]
    assert recorded == [[], [{"name": "photometric_refinement", "steps": 20, "full_steps": 30, "full_size": 256}]]
    assert build_steps(recorded[1], "the scene", typed=False) == (PhotometricRefinement(20),)
    assert torch.equal(scenes[0].anchors, scenes[1].anchors)
    assert not torch.equal(scenes[0].gaussians.means, scenes[1].gaussians.means)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("sharpening", "--postprocess: no step 'sharpening'; choose from bundle_adjustment, multi_view_stereo, "),
        ("flip_ensemble,", "--postprocess: no step ''; choose from"),
        ("none,flip_ensemble", "--postprocess: no step 'none'"),
        ("no_module_of_this_name:Step", "there is no module no_module_of_this_name"),
        ("pathlib:Path", "--postprocess: pathlib:Path: no step"),
        ("flip_ensemble,boundary_crf", "the step boundary_crf needs pair_affinity, which VGGT does not predict"),
    ],
)
def test_unknown_and_unserved_steps_are_refused_in_one_line(
    choice: str, message: str, photos: Path, random_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = photos.parent / "scene.safetensors"
    assert reconstruct(photos, "-o", output, "--weights", random_weights, "--postprocess", choice) == 2
    answer = capsys.readouterr().err
    assert answer.startswith("error: ") and answer.count("\n") == 1 and message in answer
    assert not output.exists()


def test_the_shipped_weights_keep_the_settings_of_their_steps(photos: Path) -> None:
    output = photos.parent / "scene.safetensors"
    recorded = []
    for choice in ("default", "flip_ensemble,photometric_refinement"):
        assert reconstruct(photos, "-o", output, "--size", 64, "--postprocess", choice) == 0
        recorded.append(load_scene(output).provenance["postprocess"])
    assert [step["name"] for step in recorded[0]] == [name for name in STEPS if name != "mask_votes"]
    assert recorded[1] == [step for step in recorded[0] if step["name"] in ("flip_ensemble", "photometric_refinement")]


def test_a_step_of_ones_own_needs_one_file_in_the_working_folder(photos: Path, random_weights: Path) -> None:
    """In a process of its own whose path does not hold the working folder, like an installed command."""
    (photos.parent / "my_step.py").write_text(
        "from dataclasses import dataclass, replace\n"
        "@dataclass(frozen=True)\n"
        "class Fade:\n"
        "    factor: float = 0.5\n"
        "    when, needs = 'after_decoding', frozenset()\n"
        "    def __call__(self, draft):\n"
        "        prediction = draft.predicted()\n"
        "        gaussians = prediction.gaussians\n"
        "        fainter = replace(gaussians, opacities=self.factor * gaussians.opacities)\n"
        "        return replace(draft, prediction=replace(prediction, gaussians=fainter))\n"
    )
    plain = photos.parent / "plain.safetensors"
    assert reconstruct(photos, "-o", plain, "--weights", random_weights) == 0
    command = [sys.executable, "-P", "-m", "tokengroups", "reconstruct", "photos", "-o", "faded.safetensors"]
    words = ["--weights", str(random_weights), "--postprocess", "my_step:Fade", "--keep-all"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([*command, *words], cwd=photos.parent, env=environment, check=True, capture_output=True)
    faded = load_scene(photos.parent / "faded.safetensors")
    torch.testing.assert_close(faded.gaussians.opacities, 0.5 * load_scene(plain).gaussians.opacities)
    assert faded.provenance["postprocess"] == [{"name": "my_step:Fade", "factor": 0.5}]


@pytest.mark.parametrize("command", ["reconstruct", "evaluate"])
def test_the_help_names_the_steps(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "--postprocess STEPS" in shown and "'none', 'default'" in shown
    assert all(name in shown for name in STEPS)


def test_one_photo_works_with_a_note(photos: Path, random_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = photos.parent / "scene.safetensors"
    assert reconstruct(photos / "IMG_3.png", "-o", output, "--weights", random_weights) == 0
    assert "only one photo" in capsys.readouterr().out
    assert len(load_scene(output).cameras.intrinsics) == 1


def test_photos_of_two_rooms_may_be_kept_with_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (1, 2):
        for index, pixels in enumerate(generate_room(seed, 0, num_views=3).images[:2]):
            Image.fromarray(pixels).save(tmp_path / f"room_{seed}_{index}.png")
    for photos, note in ((tmp_path, True), (tmp_path / "room_1_0.png", False)):
        output = tmp_path / "scene.safetensors"
        assert reconstruct(photos, "-o", output, "--weights", "iggt_tiny", "--postprocess", "none") == 0
        said = "do not fit the others: room_2_0.png" in capsys.readouterr().out
        assert said == note
        model = load_model("iggt_tiny")
        expected = model.reconstruct(load_photos(photos, model.image_size).images, postprocess="none")
        scene = load_scene(output)
        assert torch.equal(scene.gaussians.means, expected.gaussians.means)
        assert torch.equal(scene.assignment, expected.assignment)


def test_forty_photos_are_thinned_with_a_note(
    tmp_path: Path, random_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(40):
        Image.new("RGB", (64, 64), (6 * index, 0, 0)).save(tmp_path / f"{index:02d}.png")
    output = tmp_path / "scene.safetensors"
    assert reconstruct(tmp_path, "-o", output, "--weights", random_weights) == 0
    assert "used 16 of 40 photos" in capsys.readouterr().out
    assert len(load_scene(output).cameras.intrinsics) == 16


def test_large_blank_and_odd_photos_are_used_with_notes(
    photos: Path, random_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (90, 90), "white").save(photos / "blank.png")
    Image.new("1", (1200, 1000)).save(photos / "large.png")
    Image.fromarray(np.linspace(0, 1, 6400, dtype=np.float32).reshape(80, 80)).save(photos / "numbers.tif")
    output = photos.parent / "scene.safetensors"
    words = (photos, "-o", output, "--weights", random_weights, "--max-megapixels", 1, "--json")
    assert reconstruct(*words) == 0
    summary = json.loads(capsys.readouterr().out)
    notes = "\n".join(summary["notes"])
    assert "blank.png: enlarged from" not in notes and "nearly white all over" in notes
    assert "numbers.tif: values up to 1 taken for a range of 0 to 1" in notes
    assert "large.png: more than 1 megapixels; reduce it, or raise --max-megapixels" in notes
    assert "large.png" not in [Path(photo).name for photo in summary["photos"]] and len(summary["photos"]) == 5
    output.unlink()
    assert reconstruct(photos / "large.png", *words[1:]) == 2
    assert "large.png: more than 1 megapixels" in capsys.readouterr().err and not output.exists()


def test_the_limit_of_pixels_is_that_of_the_reader() -> None:
    assert MAX_MEGAPIXELS == decoding.MAX_MEGAPIXELS


@pytest.mark.parametrize(("num_photos", "largest"), [(1, 443), (2, 313), (12, 128), (40, 110)])  # of 40, 16 are used
def test_sizes_beyond_memory_are_refused(
    num_photos: int, largest: int, photos: Path, random_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [photos / "IMG_3.png"] * num_photos
    words += ["-o", photos.parent / "x.safetensors", "--weights", random_weights, "--size"]
    assert reconstruct(*words, largest // 16 * 16 + 16) == 2
    assert f"give at most {largest}" in capsys.readouterr().err
    if num_photos > 2:  # the others take long
        assert reconstruct(*words, largest // 16 * 16) == 0


def _empty_folder(folder: Path) -> list[Path]:
    (folder / "empty").mkdir()
    return [folder / "empty"]


def _text_named_jpg(folder: Path) -> list[Path]:
    (folder / "notes.jpg").write_text("milk, bread")
    return [folder / "notes.jpg"]


def _truncated(folder: Path) -> list[Path]:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    Image.fromarray(noise).save(folder / "cut.jpg")
    data = (folder / "cut.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(data[: len(data) // 2])
    return [folder / "cut.jpg"]


def _one_pixel(folder: Path) -> list[Path]:
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    return [folder / "dot.png"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: [], "no photo given"),
        (_empty_folder, "no photo in the folder"),
        (_text_named_jpg, "notes.jpg: not a photo"),
        (_truncated, "cut.jpg: damaged or truncated"),
        (_one_pixel, "dot.png: 1x1 pixels is too small"),
    ],
)
def test_bad_photos_are_refused_in_one_line(
    make, message: str, tmp_path: Path, random_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "scene.safetensors"
    assert reconstruct(*make(tmp_path), "-o", output, "--weights", random_weights) == 2
    answer = capsys.readouterr().err
    assert answer.startswith("error: ") and answer.count("\n") == 1
    assert message in answer
    assert not output.exists()


def test_unknown_weights_are_refused_with_the_known_names(photos: Path, capsys) -> None:
    assert reconstruct(photos, "-o", photos.parent / "x.safetensors", "--weights", "nothing") == 2
    assert "no weights 'nothing'" in capsys.readouterr().err


def test_unwritable_output_is_refused_before_the_work(photos: Path, capsys) -> None:
    assert reconstruct(photos, "-o", photos.parent / "missing" / "x.safetensors", "--weights", "nothing") == 2
    assert "there is no folder" in capsys.readouterr().err


def test_a_size_that_does_not_fit_names_one_that_does(photos: Path, random_weights: Path, capsys) -> None:
    words = (photos, "-o", photos.parent / "x.safetensors", "--weights", random_weights, "--size", 100)
    assert reconstruct(*words) == 2
    assert "96 or 112" in capsys.readouterr().err


def test_a_budget_of_gaussians_is_that_of_densify(
    photos: Path, random_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = photos.parent / "scene.safetensors"
    arguments = (photos, "-o", output, "--weights", random_weights, "--json", "--postprocess")
    assert reconstruct(*arguments, "none") == 0
    plain = json.loads(capsys.readouterr().out)["num_gaussians"]
    assert reconstruct(*arguments, "densify", "--max-gaussians", plain + 100) == 0
    summary = json.loads(capsys.readouterr().out)
    assert plain < summary["num_gaussians"] <= plain + 100
    scene = load_scene(output)
    assert scene.provenance["max_gaussians"] == scene.provenance["postprocess"][0]["max_gaussians"] == plain + 100
    assert reconstruct(*arguments, "densify", "--max-gaussians", plain - 1) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["num_gaussians"] == plain
    assert f"--max-gaussians {plain - 1}: the anchors alone have {plain:,} Gaussians" in summary["notes"]
