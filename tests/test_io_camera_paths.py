"""Camera path files: what is read, and one line for everything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokengroups.errors import UserError
from tokengroups.io.camera_paths import is_camera_path, load_camera_path

POSE = [[0.0, 0, 1, 1], [1, 0, 0, 2], [0, 1, 0, 3], [0, 0, 0, 1]]
VIEW = {"name": "door", "width": 64, "height": 48, "fx": 50.0, "fy": 40, "cx": 30, "cy": 20.5, "cam_from_world": POSE}
PATH = {"format": "tokengroups.path", "version": 1, "seconds": 6, "closed": False, "viewpoints": [VIEW, VIEW]}


def load(folder: Path, content: Any) -> Any:
    (folder / "path.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return load_camera_path(folder / "path.json")


def test_a_path_is_read(tmp_path: Path) -> None:
    found = load(tmp_path, {**PATH, "closed": True, "seconds": 2.5})
    assert (found.seconds, found.closed, found.viewpoints.size_hw) == (2.5, True, (48, 64))
    assert found.viewpoints.cam_from_world.tolist() == [POSE, POSE]
    expected = [[50, 0, 30], [0, 40, 20.5], [0, 0, 1]]
    np.testing.assert_array_equal(found.viewpoints.intrinsics.numpy(), [expected, expected])


def test_paths_are_told_from_other_files() -> None:
    assert is_camera_path(PATH) and is_camera_path({"viewpoints": 3}) and is_camera_path({"format": "tokengroups.path"})
    assert not any(is_camera_path(content) for content in ([VIEW], {"frames": []}, {"cameras": [VIEW]}, None, 3))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ([VIEW], 'not a camera path; give {"format": "tokengroups.path"'),
        ({**PATH, "format": "tokengroups.edits"}, "not a camera path"),
        ({**PATH, "version": 2}, "version 2 of tokengroups.path; this program reads version 1"),
        ({key: PATH[key] for key in PATH if key != "seconds"}, "lacks 'seconds'"),
        ({**PATH, "loop": True}, "has an unknown key 'loop'"),
        ({**PATH, "seconds": "6"}, "a value has the wrong form ('6' is no number)"),
        ({**PATH, "seconds": True}, "True is no number"),
        ({**PATH, "seconds": 0}, "seconds 0; choose 0.01 to 3600"),
        ({**PATH, "seconds": 1e9}, "seconds 1e+09; choose"),
        (json.dumps(PATH).replace("6,", "NaN,", 1), "nan is not finite"),
        ({**PATH, "closed": 1}, "closed 1 is neither true nor false"),
        ({**PATH, "viewpoints": []}, "expected a list of 1 to 10,000 viewpoints"),
        ({**PATH, "viewpoints": [0] * 10_001}, "expected a list of 1 to 10,000 viewpoints"),
        ({**PATH, "viewpoints": {"0": VIEW}}, "expected a list"),
        ({**PATH, "viewpoints": [VIEW, "door"]}, "viewpoint 1: a value has the wrong form"),
        ({**PATH, "viewpoints": [VIEW, {**VIEW, "fx": -1}]}, "viewpoint 1: focal lengths and sizes must be positive"),
        ({**PATH, "viewpoints": [VIEW, {**VIEW, "width": 65}]}, "cameras of different sizes"),
        (
            {**PATH, "viewpoints": [{**VIEW, "cam_from_world": np.diag([1, 1, -1, 1]).tolist()}]},
            "viewpoint 0: its pose",
        ),
        ({**PATH, "viewpoints": [{**VIEW, "width": 2**17}]}, "viewpoint 0: a value has the wrong form"),
    ],
)
def test_anything_else_is_one_line(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(UserError) as refused:
        load(tmp_path, content)
    assert words in str(refused.value) and "\n" not in str(refused.value) and "path.json" in str(refused.value)
