"""What all tests share. Nothing here imports tokengroups: the jaxtyping hook must come first."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

DATA = Path(__file__).parent / "data"
# No process of the browser may wait for a graphics card: Chromium draws with SwiftShader on the CPU.
BROWSER_FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Escape surrogates, which fuzz tests print: a process could not send a report that holds some."""
    return encodable((yield))


def encodable(value: Any) -> Any:
    """A nested value whose texts can be encoded as UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {key: encodable(item) for key, item in value.items()}
    return type(value)(map(encodable, value)) if isinstance(value, (list, tuple)) else value


@pytest.fixture(scope="module")  # its event loop would be in the way of other tests
def browser() -> Generator[Any]:
    """Chromium without a window."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra dev)")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("needs Chromium (apt install chromium)")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=BROWSER_FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Small committed files: golden numbers and cuts of real scenes."""
    return DATA


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test starts from the same random state, whatever ran before it."""
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weight folder of the real model, small and untrained, with its encoder beside it."""
    return _save_random_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def random_weights_with_semantics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with an untrained semantic head in MiniLM's space."""
    from tokengroups.text import load_text_encoder

    encoder = load_text_encoder()
    semantics = {"semantic_dim": encoder.dim, "text_encoder": encoder.name}
    return _save_random_weights(tmp_path_factory.mktemp("weights"), **semantics)


def _save_random_weights(folder: Path, **semantics: object) -> Path:
    from tokengroups.encoders import save_encoder
    from tokengroups.encoders.vggt import VGGT, VGGTConfig
    from tokengroups.systems import save_system
    from tokengroups.systems.token_groups import TokenGroups, TokenGroupsConfig

    torch.manual_seed(0)
    encoder = VGGTConfig(
        patch_size=16, image_size=64, embed_dim=32, num_heads=2, dino_depth=1, depth=4, camera_depth=1,
        camera_heads=2, camera_iterations=1, enable_point=False, dpt_layers=(0, 1, 2, 3),
        dpt_channels=(8, 8, 8, 8), dpt_features=8, dpt_hidden=8,
    )  # fmt: skip
    groups = TokenGroupsConfig(
        context_patch=16, anchor_stride=8, num_anchors=64, num_groups=8, gaussians_per_anchor=4, dim=32,
        num_heads=2, anchor_layers=1, group_layers=1, **semantics,
    )  # fmt: skip
    model = TokenGroups(VGGT(encoder), groups)
    save_encoder(folder / "encoder", model.encoder.state_dict(), encoder)
    save_system(folder / "groups", model.network.state_dict(), model, groups, str(folder / "encoder"))
    return folder / "groups"
