"""Pictures: what the PNG files hold, read back with Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tokengroups.errors import UserError
from tokengroups.io.pictures import (
    color_name,
    group_color,
    id_values,
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
    assert save_depth(tmp_path / "a.png", torch.tensor([[0.0, 1.2344], [65.5, 65.5354]])) == 0.001
    assert read(tmp_path / "a.png").tolist() == [[0, 1234], [65500, 65535]]


@pytest.mark.parametrize(
    ("farthest", "unit"), [(65.536, 0.01), (655.3, 0.01), (656, 0.1), (6e4, 1), (6e5, 10), (1e9, 1e5), (3e38, 1e34)]
)
def test_far_depth_has_a_coarser_unit(farthest: float, unit: float, tmp_path: Path) -> None:
    depth = torch.tensor([[0.0, farthest / 7], [farthest / 2, farthest]])
    assert save_depth(tmp_path / "a.png", depth) == pytest.approx(unit)
    values = read(tmp_path / "a.png")
    assert values.dtype == np.uint16 and values.max() > 6000
    assert np.abs(values.astype(np.float64) * unit - depth.double().numpy()).max() <= 0.501 * unit


def test_depth_that_is_no_number_is_nothing(tmp_path: Path) -> None:
    assert save_depth(tmp_path / "a.png", torch.tensor([[float("nan"), float("inf"), -1.0, 2.0]])) == 0.001
    assert read(tmp_path / "a.png").tolist() == [[0, 0, 0, 2000]]
    assert save_depth(tmp_path / "a.png", torch.zeros(2, 2)) == 0.001


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
    save_group_ids(tmp_path / "b.png", group_map, id_values([0, 7, 300]))
    assert read(tmp_path / "b.png").tolist() == [[0, 1], [8, 301]]


def test_ids_of_any_size_keep_a_value_of_their_own(tmp_path: Path) -> None:
    ids = [3, 65533, 65534, 65535, 2**40, 70000]
    values = id_values(ids)
    assert [values[group_id] for group_id in (3, 65533, 65534)] == [4, 65534, 65535]
    assert sorted(values.values()) == [4, 65531, 65532, 65533, 65534, 65535]
    save_group_ids(tmp_path / "a.png", torch.tensor([[-1, *ids]]), values)
    read_back = {value: group_id for group_id, value in values.items()}
    assert [read_back.get(value, -1) for value in read(tmp_path / "a.png")[0].tolist()] == [-1, *ids]


def test_every_value_of_16_bits_is_used_before_groups_are_too_many() -> None:
    most = range(10, 10 + 65535)
    assert sorted(id_values(most).values()) == list(range(1, 65536))
    with pytest.raises(UserError, match="65,536 groups are too many for pictures of 16-bit ids"):
        id_values(range(65536))


def test_colours_of_a_scene_are_distinct() -> None:
    colors = {group_color(group_id) for group_id in range(200)}
    assert len(colors) == 200 and group_color(-1) == (0, 0, 0) not in colors
    assert color_name((255, 0, 16)) == "#ff0010"
