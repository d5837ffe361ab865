"""Estimates: arithmetic against torch's own count of the operations that run, and what is said about them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tokengroups.cli.cost import announce, duration, peak_gb
from tokengroups.encoders.vggt import VGGT, VGGTConfig
from tokengroups.errors import UserError
from tokengroups.systems import cost, load_model
from tokengroups.systems.geometry_groups import GeometryGroups, GeometryGroupsConfig

SIZES = VGGTConfig(
    image_size=56, embed_dim=64, num_heads=2, dino_depth=2, depth=4, camera_depth=2, camera_heads=2,
    enable_point=False, dpt_layers=(0, 1, 2, 3), dpt_channels=(16, 16, 32, 32), dpt_features=32, dpt_hidden=8,
)  # fmt: skip
LARGE = VGGTConfig()


@pytest.fixture
def small() -> GeometryGroups:
    torch.manual_seed(0)
    return GeometryGroups(VGGT(SIZES), GeometryGroupsConfig())


def test_arithmetic_is_what_runs(small: GeometryGroups) -> None:
    photos, size_hw = 4, (56, 112)
    images = torch.rand(1, photos, 3, *size_hw)
    # The counter knows no attention kernel of the CPU, but the products that it stands for.
    with torch.no_grad(), FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        small.encoder(images)
    found = cost.estimate(small, photos, size_hw, 1e9)
    assert found is not None and found.operations == pytest.approx(counter.get_total_flops(), rel=0.02)
    assert found.seconds == pytest.approx(found.operations / 1e9 / cost.EFFICIENCY)


def test_memory_grows_with_photos_and_holds_the_weights(small: GeometryGroups) -> None:
    found = [cost.estimate(small, count, (56, 56), 1.0) for count in (1, 2, 40)]
    sizes = [each.bytes for each in found if each is not None]
    weights = sum(parameter.nbytes for parameter in small.parameters())
    assert weights < sizes[0] < sizes[1] < sizes[2]
    assert cost.most_photos(small, (56, 56), sizes[1], 40) == 2 and cost.most_photos(small, (56, 56), weights, 40) == 0


def test_memory_is_about_what_was_measured_at_the_published_size() -> None:
    """By `benchmarks/lean.py`, on a CPU beside the weights: 8 photos of 252x252, 100 of 518x392 by a line."""
    for photos, size_hw, measured in ((8, (252, 252), 297e6), (100, (392, 518), 6.3e9)):
        estimated = cost.working_bytes(LARGE, photos, size_hw, torch.device("cpu"))
        assert 0.9 * measured < estimated < 1.3 * measured


def test_this_machine_is_measured() -> None:
    assert 1e8 < cost.measured_rate("cpu") < 1e15
    free, peak = cost.free_bytes("cpu"), cost.peak_bytes("cpu")
    assert free is None or 2**20 < free < 2**50
    assert peak is None or 2**24 < peak < 2**45 and peak_gb("cpu") == round(peak / 1e9, 3)


def large(small: GeometryGroups, monkeypatch: pytest.MonkeyPatch, free: float) -> GeometryGroups:
    """A system that passes for one of the published size, on a machine of this much memory and 100 Gflop/s."""
    small.encoder.config = LARGE
    monkeypatch.setattr(cost, "measured_rate", lambda _: 1e11)
    monkeypatch.setattr(cost, "free_bytes", lambda _: int(free))
    return small


def test_much_work_is_announced_and_too_much_is_refused(
    small: GeometryGroups, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    announce(small, 2, (56, 56), "cpu")
    assert capsys.readouterr().err == ""
    model = large(small, monkeypatch, 64e9)
    announce(model, 24, (392, 518), "cpu")
    line = capsys.readouterr().err
    assert line.startswith("note: 24 photos at 518x392: about ") and line.endswith(" min on this CPU\n")
    model = large(small, monkeypatch, 3e9)
    announce(model, 24, (392, 518), "cpu")
    assert "3 GB are free, use --max-views " in capsys.readouterr().err
    with pytest.raises(UserError, match=r"^100 photos at .*: about 7\.\d GB, and 3 GB .* --max-views \d\d$") as error:
        announce(model, 100, (392, 518), "cpu")
    most = int(str(error.value).split()[-1])
    found = [cost.estimate(model, count, (392, 518), 1.0) for count in (most, most + 1)]
    assert found[0] is not None and found[1] is not None and found[0].bytes <= 3e9 < found[1].bytes
    with pytest.raises(UserError, match="give a smaller --size$"):
        announce(large(small, monkeypatch, 1e8), 100, (392, 518), "cpu")


def test_an_encoder_of_another_kind_has_no_estimate(small: GeometryGroups, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small, "encoder", torch.nn.Identity())
    assert cost.estimate(small, 2, (56, 56), 1.0) is None
    announce(small, 2, (56, 56), "cpu")


def test_shipped_weights_have_one() -> None:
    found = cost.estimate(load_model(), 8, (128, 128), 1e11)
    assert found is not None and found.seconds < 1


def test_durations() -> None:
    found = [duration(seconds) for seconds in (3.21, 89, 150, 7200, 1e6)]
    assert found == ["3.2 s", "89 s", "2.5 min", "2 h", "280 h"]


def test_summaries_say_what_it_took(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    from PIL import Image

    from tokengroups.cli.main import main

    Image.new("RGB", (64, 64), "gray").save(tmp_path / "a.png")
    words = [str(tmp_path / "a.png"), "--weights", "vggt_tiny", "--size", "64"]
    assert main(["reconstruct", *words, "-o", str(tmp_path / "a.safetensors")]) == 0
    assert " GB of memory\n" in capsys.readouterr().out
    assert main(["segment", *words, "-o", str(tmp_path / "masks"), "--json"]) == 0
    assert 0.05 < json.loads(capsys.readouterr().out)["peak_memory_gb"] < 1000
