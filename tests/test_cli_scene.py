"""The commands that work on scene files, as a user types them: files, text, JSON, exit codes."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import random_scene

from tokengroups.checkpoint import read_metadata, read_tensors, shipped_weights, write_tensors
from tokengroups.cli.main import COMMANDS, main
from tokengroups.errors import UserError
from tokengroups.postprocess import STEPS
from tokengroups.scene import load_scene, render_views, save_scene

ROOT = Path(__file__).parents[1]
REAL = ROOT / "tests" / "data" / "instok3d"


@pytest.fixture
def scene_file(tmp_path: Path) -> Path:
    save_scene(tmp_path / "scene.safetensors", random_scene())
    return tmp_path / "scene.safetensors"


def run(*words: object) -> int:
    return main([str(word) for word in words])


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Run a command that must fail with one line on stderr and exit code 2; returns the line."""
    assert run(*words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


# --- the frame ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["list", "query", "render", "edit", "export", "import", "info"])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(command, "--help")
    assert stopped.value.code == 0
    assert f"examples:\n  tokengroups {command}" in capsys.readouterr().out
    assert command in COMMANDS


def test_unknown_command_and_missing_arguments_exit_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["paint"], [], ["list"], ["export", "scene.safetensors"]):
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4 and all(line.startswith("error: ") and line.endswith(" --help") for line in lines)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [(UserError("no such thing"), 2, "error: no such thing\n"), (KeyboardInterrupt(), 130, "interrupted\n")],
)
def test_errors_become_exit_codes(
    error: BaseException, code: int, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tokengroups.cli import info

    def fail(_args: object) -> None:
        raise error

    monkeypatch.setattr(info, "run", fail)
    assert run("info") == code
    assert capsys.readouterr().err == text


def test_python_dash_m_and_a_closed_pipe(scene_file: Path) -> None:
    command = [sys.executable, "-m", "tokengroups", "list", str(scene_file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    assert process.stdout and process.stderr
    process.stdout.close()  # the reader is gone before anything is written
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
    process.wait()


# --- list -----------------------------------------------------------------------------------------------------------


def test_render_says_that_a_view_is_empty(scene_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = load_scene(scene_file)
    poses = scene.cameras.cam_from_world.clone()
    poses[1, :3, :3] = torch.tensor([-1.0, 1, -1]).diag()  # looks back
    save_scene(scene_file, replace(scene, cameras=replace(scene.cameras, cam_from_world=poses)))
    line = "of the scene: nothing visible is in front of the camera; choose another with --camera"
    for camera, words in (
        ("context", f"note: 1 of 2 views show no part {line}\n"),
        ("context:1", f"note: the view shows no part {line}\n"),
        ("context:0", ""),
    ):
        assert run("render", scene_file, "--camera", camera, "-o", tmp_path / "out", "--json") == 0
        captured = capsys.readouterr()
        assert captured.err == words and json.loads(captured.out)


def test_list_prints_a_row_per_group(scene_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", scene_file) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "3 groups, 6 anchors, 24 Gaussians, 2 context views of 32x24" in lines[0]
    assert lines[1].split()[:4] == ["id", "anchors", "Gaussians", "visible"]
    assert sorted(int(line.split()[0]) for line in lines[2:]) == [2, 5, 8]
    assert all(line.split()[1:3] == ["2", "8"] and "thing" in line for line in lines[2:])


def test_list_as_json_with_thumbnails(scene_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", scene_file, "--json", "--thumbnails", tmp_path / "t", "--thumbnail-size", 40) == 0
    groups = json.loads(capsys.readouterr().out)
    assert {group["id"] for group in groups} == {2, 5, 8}
    for group in groups:
        assert picture(Path(group["thumbnail"])).shape == (40, 40, 3)
        assert len(group["centre"]) == len(group["size"]) == len(group["color"]) == 3
        assert 0 <= group["visible_share"] <= 1
    assert sorted(path.name for path in (tmp_path / "t").iterdir()) == [f"group_00{i}.png" for i in (2, 5, 8)]
    assert "16 to 2048" in refused(capsys, "list", scene_file, "--thumbnails", tmp_path, "--thumbnail-size", 1)


# --- render ---------------------------------------------------------------------------------------------------------


def test_render_writes_every_kind_of_picture(
    scene_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run("render", scene_file, "--camera", "context", "-o", out, "--what", "color,depth,groups", "--json") == 0
    files = [Path(name) for name in json.loads(capsys.readouterr().out)]
    kinds = ["color", "depth", "depth_preview", "groups", "group_ids"]
    expected = {f"{kind}_00{i}.png" for kind in kinds for i in (0, 1)} | {"legend.json", "cameras.json", "depth.json"}
    assert {path.name for path in files} == {path.name for path in out.iterdir()} == expected
    legend = {entry["id"]: entry["color"] for entry in json.loads((out / "legend.json").read_text())}
    ids, colors = picture(out / "group_ids_000.png").astype(int) - 1, picture(out / "groups_000.png")
    assert set(np.unique(ids)) <= {-1, 2, 5, 8}
    for group in set(np.unique(ids)) - {-1}:
        assert {"#{:02x}{:02x}{:02x}".format(*color) for color in colors[ids == group]} == {legend[group]}
    depth = picture(out / "depth_000.png")
    assert depth.dtype == np.uint16 and 1000 < np.median(depth[depth > 0]) < 5000
    assert json.loads((out / "depth.json").read_text()) == {"depth_000.png": 0.001, "depth_001.png": 0.001}
    assert [entry["value"] for entry in json.loads((out / "legend.json").read_text())] == [3, 6, 9]


def test_render_says_where_depths_and_ids_do_not_fit_16_bits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A scene a hundred times as large as usual; a program reads its depth and ids by what lies beside them."""
    small, factor, new_ids = random_scene(), 100.0, torch.tensor([2, 65534, 70000])
    gaussians = replace(small.gaussians, means=factor * small.gaussians.means, scales=factor * small.gaussians.scales)
    poses = small.cameras.cam_from_world.clone()
    poses[:, :3, 3] *= factor
    cameras = replace(small.cameras, cam_from_world=poses)
    scene = replace(small, gaussians=gaussians, cameras=cameras, anchors=factor * small.anchors, group_ids=new_ids)
    save_scene(tmp_path / "large.safetensors", scene)
    out = tmp_path / "out"
    assert run("render", tmp_path / "large.safetensors", "-o", out, "--what", "depth,groups") == 0
    captured = capsys.readouterr()
    assert "2 depth pictures with depths over 65.535 in a coarser unit, such as 0.01 in depth_000.png" in captured.err
    assert "1 id above 65534 with another value than id + 1" in captured.err
    units = json.loads((out / "depth.json").read_text())
    ids = {entry["value"]: entry["id"] for entry in json.loads((out / "legend.json").read_text())} | {0: -1}
    assert list(units.values()) == [0.01, 0.01] and sorted(ids) == [0, 3, 65534, 65535]
    for index, view in enumerate(render_views(scene, cameras)):
        assert view.depth.max() > 66
        read = torch.from_numpy(picture(out / f"depth_{index:03d}.png") * units[f"depth_{index:03d}.png"])
        assert (read - view.depth).abs().max() < 0.006
        values = picture(out / f"group_ids_{index:03d}.png")
        assert np.array_equal(np.vectorize(ids.get)(values), view.group_map)


def test_render_from_other_cameras(scene_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("render", scene_file, "--camera", "orbit:3", "-o", tmp_path / "a", "--size", 48) == 0
    assert "rendered 3 views of 64x48 (color)" in capsys.readouterr().out
    assert run("render", scene_file, "--camera", tmp_path / "a" / "cameras.json", "-o", tmp_path / "b") == 0
    for index in range(3):  # what was used is written, and gives the same pictures
        name = f"color_00{index}.png"
        assert np.array_equal(picture(tmp_path / "a" / name), picture(tmp_path / "b" / name))
    assert run("render", scene_file, "--camera", "context:1", "-o", tmp_path / "c", "--background", "#ff0000") == 0
    assert picture(tmp_path / "c" / "color_000.png")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("what", ["Colours, DEPTHS, group", "colors depth groups", "depth,color,colour,groups,"])
def test_render_forgives_spellings(scene_file: Path, tmp_path: Path, what: str) -> None:
    assert run("render", scene_file, "-o", tmp_path / "a", "--what", what, "--background", "Dark Orange") == 0
    plain = ("--what", "color,depth,groups", "--background", "#ff8c00")
    assert run("render", scene_file, "-o", tmp_path / "b", *plain) == 0
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "b").iterdir())
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--camera", "context:2"], "'2' should be a whole number from 0 to 1"),
        (["--camera", "orbit"], "give context, context:I, orbit:N"),
        (["--camera", "orbit:0"], "'0' should be a whole number from 1"),
        (["--camera", "orbit:3:400"], "'400' should be"),
        (["--camera", "above"], "give context"),
        (["--camera", "."], "no COLMAP model"),
        (["--camera", "orbit:\u00b2"], "should be a whole number"),
        (["--size", "4096"], "pictures of 5461x4096 are too large: at most 4096 a side and 12.6 megapixels"),
        (["--size", "3073"], "pictures of 4097x3073 are too large"),
        (["--camera", "none.json"], "cannot read none.json: there is no such file; give a transforms.json"),
        (["--what", "color,normals"], "choose from color,depth,groups"),
        (["--what", ""], "choose from color,depth,groups"),
        (["--size", "0"], "choose 1 to 4096"),
        (["--background", "blueish"], "give a name such as white, #rrggbb, #rgb"),
        (["--background", "#12345g"], "give a name such as white, #rrggbb, #rgb"),
    ],
)
def test_render_refuses_bad_options(
    scene_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert words in refused(capsys, "render", scene_file, "-o", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


# --- edit -----------------------------------------------------------------------------------------------------------


def test_edit_applies_operations_in_order(scene_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "edited.safetensors"
    words = f"remove 2 move 5 -0.4 0 0 rotate 5 --axis y --degrees 30 insert {scene_file}:2 --at 0 0.2 1.5 -o {out}"
    assert run("edit", scene_file, *words.split(), "--render", tmp_path / "pictures") == 0
    text = capsys.readouterr().out
    for line in ("removed 2", "moved 5 by -0.4 0 0", "turned 5 about y by 30 degrees", "as group 9", f"wrote {out}"):
        assert line in text
    assert load_scene(out).group_ids.tolist() == [5, 8, 9]
    assert [edit["operation"] for edit in load_scene(out).provenance["edits"]] == ["remove", "move", "rotate", "insert"]
    names = [f"{when}_00{index}.png" for when in ("after", "before") for index in (0, 1)]
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == names


def test_edit_takes_options_anywhere(scene_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "edited.safetensors"
    assert run("edit", "-o", out, "--json", scene_file, "keep", 5, 8) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"output": str(out), "edits": ["kept only 5, 8"], "groups": [5, 8], "pictures": []}
    assert run("edit", scene_file, "remove", 2, f"--output={out}", "move", 5, -1, 0, 0, "--json") == 0
    assert json.loads(capsys.readouterr().out)["edits"] == ["removed 2", "moved 5 by -1 0 0"]


@pytest.mark.parametrize("words", ["rescale --help", "none move -h", "a remove 2 -o b --help", "a -o --help"])
def test_help_among_the_operations_is_the_help(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("edit", "--help")
    assert "\noperations:\n" in (wanted := capsys.readouterr().out)
    assert run("edit", *words.split()) == 0
    assert capsys.readouterr().out == wanted


def test_the_script_edit_py_is_the_same_command(
    scene_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "edited.safetensors"
    for group, code in (("2", 0), ("99", 2)):
        monkeypatch.setattr(sys, "argv", ["edit.py", str(scene_file), "remove", group, "-o", str(out)])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(ROOT / "edit.py"), run_name="__main__")
        assert stopped.value.code == code
    captured = capsys.readouterr()
    assert "removed 2" in captured.out
    assert captured.err == "error: there is no group 99; the scene has the groups 2, 5, 8\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("remove 7 -o {out}", "there is no group 7; the scene has the groups 2, 5, 8"),
        ("remove 2 remove 2 -o {out}", "there is no group 2; the scene has the groups 5, 8"),
        ("remove 2", "name the edited scene's file with -o OUT"),
        ("-o {out}", "no operation given"),
        ("paint 2 -o {out}", "unknown operation 'paint'"),
        ("remove 2 -o", "-o needs a value"),
        ("insert none.safetensors:4 --at 0 0 1 -o {out}", "cannot read none.safetensors"),
        ("remove 2 -o {out}/a/b", "there is no folder"),
        ("remove 2 -o {folder}", "it is a folder"),
    ],
)
def test_edit_refuses_bad_input_and_writes_nothing(
    scene_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    out = tmp_path / "edited.safetensors"
    assert message in refused(capsys, "edit", scene_file, *words.format(out=out, folder=tmp_path).split())
    assert [path.name for path in tmp_path.iterdir()] == ["scene.safetensors"]


def test_insert_from_an_older_scene_version_is_refused(
    scene_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old.safetensors"
    write_tensors(old, read_tensors(scene_file), read_metadata(scene_file) | {"version": "0"})
    out = tmp_path / "out.safetensors"
    line = refused(capsys, "edit", scene_file, "insert", f"{old}:2", "--at", 0, 0, 1, "-o", out)
    assert "old.safetensors: scene file version 0, this release reads 1: made by an older tokengroups" in line
    assert not out.exists()


def test_full_disk_leaves_the_old_scene_intact(scene_file: Path, tmp_path: Path) -> None:
    """A file-size limit makes the system refuse in the middle of the write, as a full disk does."""
    out = tmp_path / "edited.safetensors"
    shutil.copy(scene_file, out)
    code = (
        "import resource, sys; from tokengroups.cli.main import main\n"
        "import tokengroups.scene, tokengroups.editing\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "edit", str(scene_file), "remove", "2", "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: cannot write {out}: ") and done.stderr.count("\n") == 1
    assert out.read_bytes() == scene_file.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["edited.safetensors", "scene.safetensors"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder_is_refused(scene_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    assert "not writable" in refused(capsys, "edit", scene_file, "remove", 2, "-o", folder / "a.safetensors")


# --- export and import ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out.ply", "out.SPZ", "out.glb"])
def test_scene_files_are_not_named_as_splats(
    name: str, scene_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"{name}: a scene file is none of splats; name it out.safetensors"
    assert words in refused(capsys, "edit", scene_file, "remove", "2", "-o", tmp_path / name)
    assert words in refused(capsys, "import", tmp_path, "-o", tmp_path / name)
    assert words in refused(capsys, "reconstruct", tmp_path, "-o", tmp_path / name)
    assert not (tmp_path / name).exists()


def test_splats_are_no_scene_file(scene_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("export", scene_file, "-o", tmp_path / "splats.ply") == 0
    for command in ("list", "info"):
        line = refused(capsys, command, tmp_path / "splats.ply")
        assert line.endswith("splats.ply: no scene file; make one of it with `tokengroups import`\n")
    scene_file.rename(tmp_path / "splats.ply")  # a scene by its content
    assert run("list", tmp_path / "splats.ply") == 0


def test_gltf_is_written_and_not_read(scene_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("export", scene_file, "-o", tmp_path / "splats.glb") == 0
    line = refused(capsys, "import", tmp_path / "splats.glb", "-o", tmp_path / "again.safetensors")
    assert "splats.glb: glTF is written, not read; export the scene as .ply or .spz" in line


def test_export_then_import_gives_the_groups_back(
    scene_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ply = tmp_path / "out" / "scene.ply"
    ply.parent.mkdir()
    assert run("export", scene_file, "-o", ply, "--groups", tmp_path / "groups") == 0
    assert f"wrote {ply} (24 Gaussians)" in capsys.readouterr().out
    assert sorted(path.name for path in ply.parent.iterdir()) == ["cameras.json", "groups.json", "scene.ply"]
    for source in (ply, tmp_path / "groups"):
        assert run("import", source, "-o", tmp_path / "again.safetensors") == 0
        assert load_scene(tmp_path / "again.safetensors").group_ids.tolist() == [2, 5, 8]
    assert run("export", scene_file, "-o", ply, "--json") == 0
    capsys.readouterr()
    assert "must end in .ply" in refused(capsys, "export", scene_file, "-o", tmp_path / "scene.obj")


POINTS = """
import numpy as np

from tokengroups.io.files import atomic_path

def save(path, gaussians):
    with atomic_path(path) as draft:
        np.savetxt(draft, gaussians.means.numpy())
"""


def test_an_export_format_is_one_function(
    scene_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "points_writer.py").write_text(POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    out, groups = tmp_path / "scene.xyz", tmp_path / "groups"
    words = ("export", scene_file, "-o", out, "--groups", groups)
    assert "must end in .ply" in refused(capsys, *words)
    assert "choose from .ply, .spz, .glb, or give" in refused(capsys, *words, "--writer", "xyz")
    assert run(*words, "--writer", "points_writer:save") == 0
    assert "wrote 3 group XYZs to" in capsys.readouterr().out
    entries = json.loads((tmp_path / "groups.json").read_text())["groups"]
    assert {entry["file"] for entry in entries} == {"scene.xyz"}
    rows = np.loadtxt(out)
    for entry in entries:
        alone = np.loadtxt(groups / f"group_{entry['id']:03d}.xyz")
        assert np.array_equal(alone, rows[entry["first"] : entry["first"] + entry["count"]])


def test_real_groups_are_imported_listed_edited_and_rendered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene, edited = tmp_path / "real.safetensors", tmp_path / "edited.safetensors"
    assert run("import", REAL, "-o", scene) == 0
    text = capsys.readouterr().out
    assert "note: no cameras.json" in text and "3 groups, 11 anchors, 352 Gaussians" in text
    assert run("list", scene, "--json") == 0
    assert {group["id"] for group in json.loads(capsys.readouterr().out)} == {6, 11, 40}
    assert run("edit", scene, *f"remove 40 move 6 0.2 0 0 -o {edited}".split()) == 0
    assert run("render", edited, "--camera", "context:0", "-o", tmp_path / "pictures", "--size", 64) == 0
    assert picture(tmp_path / "pictures" / "color_000.png").max() > 50


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["none", "-o", "{out}"], "no such file or folder"),
        ([str(REAL), "-o", "{out}", "--fov", "200"], "choose 1 to 170"),
        ([str(REAL), "-o", "{out}", "--size", "5"], "choose 16 to 2048"),
        ([str(REAL), "-o", "{out}/missing/a"], "there is no folder"),
        ([str(REAL / "README.md"), "-o", "{out}"], "not a PLY file"),
    ],
)
def test_import_refuses_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    out = tmp_path / "scene.safetensors"
    assert words in refused(capsys, "import", *(option.format(out=out) for option in options))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["list", "render", "export", "edit"])
def test_damaged_scene_is_refused_everywhere(
    command: str, scene_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene_file.write_bytes(scene_file.read_bytes()[:-7])
    more = {"list": [], "render": ["-o", tmp_path / "r"], "export": ["-o", tmp_path / "a.ply"]}
    edit = ["remove", 2, "-o", tmp_path / "b.safetensors"]
    assert f"cannot read {scene_file}" in refused(capsys, command, scene_file, *more.get(command, edit))
    assert [path.name for path in tmp_path.iterdir()] == ["scene.safetensors"]


# --- info -----------------------------------------------------------------------------------------------------------


def test_info_says_what_works_and_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info") == 0
    assert "tokengroups 0" in capsys.readouterr().out
    assert run("info", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert set(facts["render_backends"]) == {"gsplat", "cpp", "torch"}
    assert facts["render_backends"]["torch"] is None and facts["packages"]["torch"]
    assert facts["devices"][0]["name"] == "cpu"


def test_info_lists_shipped_weights_and_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    entries = {entry["name"]: entry for entry in facts["weights"]}
    assert list(entries) == shipped_weights() and {"token_groups_tiny", "vggt_tiny"} <= set(entries)
    assert entries["token_groups_tiny"]["text_encoder"].startswith("minilm:")
    assert entries["vggt_tiny"]["text_encoder"] is None and entries["vggt_tiny"]["megabytes"] > 1
    assert list(facts["postprocess"]) == list(STEPS)
    assert all(len(line) > 20 for line in facts["postprocess"].values())
    assert run("info") == 0
    shown = capsys.readouterr().out
    assert all(re.search(rf"^{name} +\w", shown, re.MULTILINE) for name in (*STEPS, *entries))


def test_class_names_and_scores_need_no_text_encoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = replace(random_scene(), group_names=("chair", "lamp", "chair"), group_scores=torch.tensor([0.75, 0.5, 0.0]))
    path, out = tmp_path / "scene.safetensors", tmp_path / "edited.safetensors"
    save_scene(path, named)
    assert run("list", path) == 0
    header, *rows = (line.split() for line in capsys.readouterr().out.splitlines()[1:])
    assert header[-2:] == ["name", "score"]
    assert {int(row[0]): row[-2:] for row in rows} == {
        2: ["chair", "0.750"], 5: ["lamp", "0.500"], 8: ["chair", "-"],
    }  # fmt: skip
    assert run("list", path, "--json") == 0
    listed = {entry["id"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert {group: (entry["name"], entry["score"]) for group, entry in listed.items()} == {
        2: ("chair", 0.75), 5: ("lamp", 0.5), 8: ("chair", None),
    }  # fmt: skip
    assert run("edit", path, "remove", "lamp", "-o", out) == 0
    assert load_scene(out).group_names == ("chair", "chair")
    assert "'chair' matches 2 groups: 2, 8" in refused(capsys, "edit", path, "remove", "chair", "-o", out)
    assert run("edit", path, "remove", "chair", "--all", "-o", out) == 0
    left = load_scene(out)
    assert left.group_names == ("lamp",) and left.group_scores is not None and left.group_scores.tolist() == [0.5]
    assert run("export", out, "-o", tmp_path / "scene.ply") == 0
    (entry,) = json.loads((tmp_path / "groups.json").read_text())["groups"]
    assert (entry["name"], entry["score"]) == ("lamp", 0.5)
    lacking = refused(capsys, "edit", path, "remove", "sofa", "-o", out)
    assert "no group has the name 'sofa': the scene has chair, lamp, and no semantics for other texts" in lacking
