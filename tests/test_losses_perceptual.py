"""LPIPS: the linear layers are the package's, the trunk comes from a file or is random, imports work."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tokengroups.compat import prepare_torchvision
from tokengroups.errors import UserError
from tokengroups.losses.perceptual import Lpips


def _in_fresh_python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_torchvision_and_lpips_import_after_the_cure() -> None:
    """The operators are declared exactly where torchvision's own do not load."""
    printed = _in_fresh_python(
        "from tokengroups.compat import prepare_torchvision\n"
        "declared, again = prepare_torchvision(), prepare_torchvision()\n"
        "import torchvision, lpips\n"
        "print(declared != torchvision.extension._has_ops(), again)"
    )
    assert printed == "True False"


def test_cure_keeps_off_where_torchvisions_operators_load() -> None:
    printed = _in_fresh_python(
        "import torch\n"
        "torch.ops.load_library = lambda path: None\n"  # as if the binary fitted
        "from tokengroups.compat import prepare_torchvision\n"
        "print(prepare_torchvision(), hasattr(torch.ops.torchvision, 'nms'))"
    )
    assert printed == "False False"


@pytest.fixture(scope="module")
def squeeze_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prepare_torchvision()
    import torchvision

    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("trunk") / "squeezenet.pth"
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), path)
    return path


def test_distance_with_given_trunk_equals_a_plain_computation(squeeze_weights: Path) -> None:
    """LPIPS by its definition, from torchvision's own forward pass and the package's linear layers."""
    metric = Lpips("squeeze", squeeze_weights)
    import torchvision

    network = torchvision.models.squeezenet1_1(weights=None)
    network.load_state_dict(torch.load(squeeze_weights, weights_only=True))
    network.eval()
    mean = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
    std = torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)
    first, second = torch.rand(2, 3, 48, 40), torch.rand(2, 3, 48, 40)
    ends = [1, 4, 7, 9, 10, 11, 12]  # the last layer of each compared feature map
    maps: list[list[torch.Tensor]] = []
    for images in (first, second):
        x, kept = (2 * images - 1 - mean) / std, []
        for index, layer in enumerate(network.features):
            x = layer(x)
            kept += [x.clone()] if index in ends else []  # clone: the next layer may be an in-place ReLU
        maps.append(kept)
    expected = torch.zeros(2)
    for level, (a, b) in enumerate(zip(*maps, strict=True)):
        difference = (torch.nn.functional.normalize(a, dim=1) - torch.nn.functional.normalize(b, dim=1)) ** 2
        expected += torch.einsum("bchw,c->bhw", difference, metric.network.lins[level].model[1].weight.flatten()).mean(
            (1, 2)
        )
    assert not metric.trunk_is_random
    torch.testing.assert_close(metric(first, second), expected, rtol=1e-4, atol=1e-6)


def test_random_trunk_is_logged_repeatable_and_leaves_the_random_state(caplog: pytest.LogCaptureFixture) -> None:
    before = torch.get_rng_state()
    with caplog.at_level(logging.WARNING):
        first, second = Lpips("alex"), Lpips("alex")
    assert torch.equal(before, torch.get_rng_state())
    assert first.trunk_is_random and "random" in caplog.text
    images = torch.rand(2, 2, 3, 64, 64)
    assert torch.equal(first(*images), second(*images))


def test_zero_for_equal_images_and_gradient_for_others() -> None:
    metric = Lpips("squeeze")
    photo = torch.rand(1, 3, 32, 32)
    assert metric(photo, photo).item() == 0
    predicted = torch.rand(1, 3, 32, 32, requires_grad=True)
    metric(predicted, photo).sum().backward()
    assert predicted.grad is not None and predicted.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in metric.parameters())


def test_unusable_trunk_files(tmp_path: Path, squeeze_weights: Path) -> None:
    text = tmp_path / "text.pth"
    text.write_text("no weights")
    os.mkfifo(tmp_path / "pipe.pth")  # nobody will ever write into it
    for path, message in [
        (tmp_path / "pipe.pth", "it is a device, pipe or socket"),
        (tmp_path / "none.pth", "cannot read"),
        (text, "not a PyTorch state dict"),
        (squeeze_weights, "torchvision's alexnet"),
    ]:
        with pytest.raises(UserError, match=message):
            Lpips("alex", path)
