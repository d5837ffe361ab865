"""Pictures: what the PNG files hold, read back with Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tokengroups.io.pictures import (
    color_name,
    group_color,
    save_color,
    save_depth,
    save_depth_preview,
    save_group_colors,
    save_group_ids,
)


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_colour_is_rounded_and_clipped(tmp_path: Path) -> None:
    save_color(tmp_path / "a.png", torch.tensor([[[0.5, 1.5, -1.0]]]))
    assert read(tmp_path / "a.png").tolist() == [[[128, 255, 0]]]


def test_depth_is_in_thousandths(tmp_path: Path) -> None:
    save_depth(tmp_path / "a.png", torch.tensor([[0.0, 1.2344], [65.5, 100.0]]))
    assert read(tmp_path / "a.png").tolist() == [[0, 1234], [65500, 65535]]


def test_depth_preview_darkens_with_distance_and_leaves_nothing_black(tmp_path: Path) -> None:
    save_depth_preview(tmp_path / "a.png", torch.tensor([[0.0, 1.0, 2.0, 4.0]]))
    sums = read(tmp_path / "a.png").astype(int).sum(-1)[0]
    assert sums[0] == 0 and sums[1] > sums[2] > sums[3] > 0
    save_depth_preview(tmp_path / "b.png", torch.zeros(2, 2))
    assert not read(tmp_path / "b.png").any()


def test_group_maps_have_fixed_colours_and_ids(tmp_path: Path) -> None:
    group_map = torch.tensor([[-1, 0], [7, 300]])
    save_group_colors(tmp_path / "a.png", group_map)
    assert read(tmp_path / "a.png").reshape(-1, 3).tolist() == [list(group_color(i)) for i in (-1, 0, 7, 300)]
    save_group_ids(tmp_path / "b.png", group_map)
    assert read(tmp_path / "b.png").tolist() == [[0, 1], [8, 301]]


def test_colours_of_a_scene_are_distinct() -> None:
    colors = {group_color(group_id) for group_id in range(200)}
    assert len(colors) == 200 and group_color(-1) == (0, 0, 0) not in colors
    assert color_name((255, 0, 16)) == "#ff0010"
