"""The rendering function itself: batches, backgrounds, errors, threads, processes, and the library behind it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from render_scenes import BACKENDS, Scene, cotangents, gradients, random_scene, relative_l2, with_fields
from tolerances import RELATIVE_L2, tolerance

from tokengroups.render import available_backends, build, library, rasterize, render
from tokengroups.render.inputs import check_shapes
from tokengroups.types import Gaussians

needs_library = pytest.mark.skipif(len(BACKENDS) == 1, reason="the C++ rasteriser is not available")
CPU_BACKENDS = ["torch", "cpp"] if len(BACKENDS) > 1 else ["torch"]
VARIANTS = ["torch", *(library.supported_variants() if len(BACKENDS) > 1 else [])]


def _gaussians(*batch: int, count: int = 20, degree: int = 1) -> Gaussians:
    g = torch.Generator().manual_seed(0)
    means = torch.randn(*batch, count, 3, generator=g) + torch.tensor([0.0, 0.0, 4.0])
    return Gaussians(
        means, torch.randn(*batch, count, 4, generator=g), 0.2 * torch.rand(*batch, count, 3, generator=g),
        torch.rand(*batch, count, generator=g), torch.randn(*batch, count, (degree + 1) ** 2, 3, generator=g),
    )  # fmt: skip


def _cameras(*batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    intrinsics = torch.tensor([[30.0, 0, 10], [0, 30.0, 8], [0, 0, 1]])
    poses = torch.eye(4).repeat(*batch, 1, 1)
    poses[..., 0, 3] = torch.linspace(-0.5, 0.5, poses[..., 0, 3].numel()).reshape(batch)
    return poses, intrinsics.expand(*batch, 3, 3)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_batch_equals_one_call_each(backend: str) -> None:
    gaussians, (poses, intrinsics) = _gaussians(2, 3), _cameras(2, 3, 2)
    features = torch.randn(2, 3, 4, 5)
    ids = torch.arange(20) % 4
    together = render(gaussians, poses, intrinsics, (16, 20), anchor_ids=ids, anchor_features=features, backend=backend)
    assert together.colors.shape == (2, 3, 2, 16, 20, 3)
    assert together.features is not None and together.features.shape == (2, 3, 2, 16, 20, 5)
    assert together.alphas.shape == together.depths.shape == (2, 3, 2, 16, 20)
    for i in range(2):
        for j in range(3):
            for c in range(2):
                alone = render(
                    gaussians.map(lambda t, i=i, j=j: t[i, j]), poses[i, j, c : c + 1], intrinsics[i, j, :1], (16, 20),
                    anchor_ids=ids, anchor_features=features[i, j], backend=backend,
                )  # fmt: skip
                assert torch.equal(alone.colors[0], together.colors[i, j, c])
                assert torch.equal(alone.depths[0], together.depths[i, j, c])
                assert alone.features is not None
                torch.testing.assert_close(alone.features[0], together.features[i, j, c], **tolerance("float32"))


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_background_shows_where_nothing_hides_it(backend: str) -> None:
    scene = random_scene(0, 30, (20, 24)).to(torch.float32, grad=True)
    background = torch.tensor([0.2, 0.5, 0.9], requires_grad=True)
    plain, out = scene.render(backend), scene.render(backend, background=background)
    expected = plain.colors + (1 - plain.alphas)[..., None] * background
    torch.testing.assert_close(out.colors, expected)
    (gradient,) = torch.autograd.grad(out.colors.sum(), background)
    torch.testing.assert_close(gradient, (1 - plain.alphas).sum().expand(3))


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_colours_are_clamped_below_but_not_above(backend: str) -> None:
    gaussians = _gaussians(degree=0)
    gaussians.sh[:10] = -5.0
    gaussians.sh[10:] = 5.0
    colors = render(gaussians, *_cameras(1), (16, 20), backend=backend).colors
    assert colors.min() == 0 and colors.max() > 1


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_depth_is_expected_z_and_zero_where_empty(backend: str) -> None:
    gaussians = _gaussians(count=1)
    out = render(gaussians, *_cameras(1), (64, 80), backend=backend)
    hit = out.alphas > 0
    assert hit.any() and not hit.all()
    torch.testing.assert_close(out.depths[hit], gaussians.means[0, 2].expand(int(hit.sum())))
    assert (out.depths[~hit] == 0).all()


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize("name", ["means", "quats", "scales", "opacities", "colors", "cam_from_world", "intrinsics"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_finite_input_is_named(name: str, value: float, backend: str) -> None:
    scene = random_scene(0, 20, (8, 8), channels=5, features=3)
    tensor = getattr(scene, name).clone()
    tensor.view(-1)[-1] = value
    with pytest.raises(ValueError, match=f"{name} contain NaN or infinite values"):
        with_fields(scene, **{name: tensor}).render(backend)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_not_finite_anchor_features_are_named(backend: str) -> None:
    scene = random_scene(0, 20, (8, 8), features=3)
    assert scene.anchor_features is not None
    with pytest.raises(ValueError, match="anchor_features contain NaN"):
        with_fields(scene, anchor_features=torch.full_like(scene.anchor_features, float("nan"))).render(backend)


def test_misuse_is_refused_with_the_value() -> None:
    scene = random_scene(0, 20, (8, 8), features=3)
    assert scene.anchor_ids is not None
    with pytest.raises(ValueError, match=r"anchor_ids must lie in \[0, 5\), got 0..5"):
        with_fields(scene, anchor_ids=torch.arange(20) % 6).render("torch")
    with pytest.raises(ValueError, match="anchor_features need anchor_ids"):
        Scene(**{**scene.__dict__, "anchor_ids": None}).render("torch")
    with pytest.raises(ValueError, match=r"size_hw must be at least \(1, 1\), got \(0, 8\)"):
        Scene(**{**scene.__dict__, "size_hw": (0, 8)}).render("torch")
    shapes = {"means": torch.zeros(5, 3), "quats": torch.zeros(4, 4), "cam_from_world": torch.eye(4)[None]}
    shapes |= {"scales": torch.zeros(5, 3), "opacities": torch.zeros(5), "colors": torch.zeros(5, 3)}
    with pytest.raises(ValueError, match=r"quats must have shape \[5, 4\], got \[4, 4\]"):
        check_shapes({**shapes, "intrinsics": torch.eye(3)[None]}, torch.Size(), (8, 8))


def test_backend_that_cannot_be_used_says_why() -> None:
    scene = random_scene(0, 5, (8, 8))
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="backend gsplat cannot be used: torch sees no CUDA device"):
            scene.render("gsplat")
        assert available_backends()["gsplat"] == "torch sees no CUDA device"
    if "cpp" in CPU_BACKENDS:
        with pytest.raises(ValueError, match="backend cpp needs float32 tensors on cpu, got torch.float64"):
            scene.to(torch.float64).render("cpp")
    assert available_backends()["torch"] is None


def test_half_precision_inputs_are_rendered_in_float32() -> None:
    scene = random_scene(0, 20, (8, 8)).to(torch.bfloat16, grad=True)
    out = scene.render("auto")
    found = gradients(scene, out, cotangents(out))
    assert {gradient.dtype for gradient in found.values()} == {torch.bfloat16}


def test_inputs_keep_their_values_and_any_strides_do() -> None:
    scene = random_scene(0, 20, (8, 8))
    strided = with_fields(scene, means=scene.means.T.contiguous().T, colors=scene.colors.flip(-1).flip(-1))
    before = scene.means.clone()
    for backend in CPU_BACKENDS:
        assert torch.equal(strided.render(backend).colors, scene.render(backend).colors)
    assert torch.equal(scene.means, before)


@pytest.fixture
def _two_threads() -> object:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@needs_library
def test_runs_are_bitwise_equal_at_any_thread_count(_two_threads: object) -> None:
    scene = random_scene(2, 400, (50, 70), cameras=3, channels=6, features=7).to(torch.float32, grad=True)

    def run(threads: int) -> list[torch.Tensor]:
        torch.set_num_threads(threads)
        out = scene.render("cpp")
        return [out.colors, out.alphas, out.depths, *gradients(scene, out, cotangents(out)).values()]

    for threads in (1, 2, 3, 5):
        first, second = run(threads), run(threads)
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True)), threads
        assert all(torch.equal(a, b) for a, b in zip(first[:3], run(1)[:3], strict=True)), threads
        # Threads add up gradients in another order: an entry whose terms cancel keeps the error of the large terms.
        for a, b in zip(first[3:], run(1)[3:], strict=True):
            assert relative_l2(a, b) < RELATIVE_L2["render_gradients"]


@needs_library
def test_forked_child_renders(_two_threads: object) -> None:
    """OpenMP's threads do not survive a fork: a child that waited for them would hang."""
    scene = random_scene(2, 100, (40, 40))
    expected = scene.render("cpp").colors.tolist()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=lambda: queue.put(scene.render("cpp").colors.tolist()))
    child.start()
    try:
        assert queue.get(timeout=60) == expected
    finally:
        child.kill()
        child.join()


class _Renderings(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        return random_scene(index, 50, (20, 20)).render("auto").colors


@needs_library
def test_data_loader_workers_render(_two_threads: object) -> None:
    here = torch.stack([_Renderings()[i] for i in range(4)])
    loader = torch.utils.data.DataLoader(_Renderings(), batch_size=4, num_workers=1, timeout=60)
    assert torch.equal(next(iter(loader)), here)


@needs_library
def test_gradients_are_not_differentiable_again() -> None:
    scene = random_scene(0, 10, (8, 8)).to(torch.float32, grad=True)
    (gradient,) = torch.autograd.grad(scene.render("cpp").colors.sum(), scene.means, create_graph=True)
    with pytest.raises(RuntimeError):
        gradient.sum().backward()


def test_without_compiler_the_fallback_is_announced_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(library, "NATIVE_FOLDER", tmp_path)
    library._load.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                assert random_scene(0, 5, (8, 8)).render("auto").colors.shape == (2, 8, 8, 3)
        assert caplog.text.count("rendering with PyTorch, which is slow: no C++ compiler found") == 1
        with pytest.raises(ValueError, match="backend cpp cannot be used: no C\\+\\+ compiler found"):
            random_scene(0, 5, (8, 8)).render("cpp")
    finally:
        library._load.cache_clear()


def test_failing_compiler_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "broken"
    compiler.write_text("#!/bin/sh\necho 'x.h:1: fatal error: omp.h: No such file' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(build.BuildError, match=r"failed: x\.h:1: fatal error: omp\.h: No such file$"):
        build.build_library(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "cut by a byte": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "changed": lambda path: path.write_bytes(path.read_bytes()[:9999] + b"!" + path.read_bytes()[10000:]),
    "empty": lambda path: path.write_bytes(b""),
    "of an earlier release": lambda path: path.write_bytes(path.read_bytes()[:-32]),
    "foreign": lambda path: path.write_bytes(Path(torch._C.__file__).read_bytes()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "missing": lambda path: path.unlink(),
}


@needs_library
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_library_that_is_not_whole_is_built_again(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loading such a file ends the process: parts of it are read only when they are called."""
    whole = library._locate()
    cached = tmp_path / "tokengroups" / build.library_name()
    cached.parent.mkdir()
    cached.write_bytes(whole.read_bytes())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(library, "NATIVE_FOLDER", tmp_path / "none")
    built: list[Path] = []
    monkeypatch.setattr(library, "build_library", lambda folder: built.append(folder) or whole)
    assert library._locate() == cached and not built
    DAMAGES[damage](cached)
    assert library._locate() == whole and built == [cached.parent]


def test_without_a_place_for_the_library_pytorch_renders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(library, "NATIVE_FOLDER", tmp_path)
    monkeypatch.setattr(library, "cache_folder", lambda: None)
    library._load.cache_clear()
    try:
        assert random_scene(0, 5, (8, 8)).render("auto").colors.shape == (2, 8, 8, 3)
        reason = library.native_missing()
        assert reason is not None and "no folder to build the C++ rasteriser in" in reason
    finally:
        library._load.cache_clear()


@pytest.mark.slow
@pytest.mark.skipif(build.find_compiler() is None, reason="needs a C++ compiler")
def test_library_is_built_once_per_user(tmp_path: Path) -> None:
    """In a source tree: the first process compiles into the user's cache, the next one finds it there."""
    code = (
        "import logging; logging.basicConfig(level=logging.INFO)\n"
        "from tokengroups.render import library\n"
        f"library.NATIVE_FOLDER = library.Path({str(tmp_path)!r})\n"
        "print(library.supported_variants()[0])\n"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    together = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
    assert [process.wait() for process in together] == [0, 0]  # both build, and the later file replaces the other
    [built] = (tmp_path / "cache" / "tokengroups").iterdir()
    assert build.is_sealed(built)
    built.write_bytes(built.read_bytes()[:5000])
    for times in (1, 0):
        answer = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
        )
        assert answer.stdout.strip() == "portable"
        assert answer.stderr.count("built the C++ rasteriser once") == times


@needs_library
def test_unknown_variant_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENGROUPS_RENDER_VARIANT", "avx1024")
    with pytest.raises(ValueError, match="avx1024 is not available here: portable"):
        random_scene(0, 5, (8, 8)).render("cpp")


@needs_library
def test_first_call_in_a_fresh_process_is_quick() -> None:
    code = (
        "import time, torch\n"
        "from tokengroups.render import rasterize\n"
        "t = [torch.rand(9, 3), torch.rand(9, 4), torch.rand(9, 3), torch.rand(9), torch.rand(9, 3)]\n"
        "start = time.process_time()\n"
        "rasterize(*t, torch.eye(4)[None], torch.eye(3)[None], (32, 32), backend='cpp')\n"
        "print(time.process_time() - start)\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert float(answer.stdout) < 0.3


def test_signature_takes_any_order_of_batch() -> None:
    """No batch axis at all, with colours given directly."""
    scene = random_scene(1, 8, (6, 7), cameras=1, channels=2)
    out = rasterize(
        scene.means, scene.quats, scene.scales, scene.opacities, scene.colors, scene.cam_from_world,
        scene.intrinsics, (6, 7),
    )  # fmt: skip
    assert out.colors.shape == (1, 6, 7, 2) and out.features is None


def _channels(kind: str, rows: int, channels: int) -> torch.Tensor:
    """Features of anchors: random ones of either sign, group probabilities, or many that are equal."""
    random = torch.randn(rows, channels, generator=torch.Generator().manual_seed(channels))
    return {"signed": random, "probabilities": (3 * random).softmax(dim=1), "equal": random.round().clamp(-1, 1)}[kind]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", ["signed", "probabilities", "equal"])
@pytest.mark.parametrize("channels", [1, 3, 17, 40])
def test_argmax_is_that_of_the_features(variant: str, kind: str, channels: int, monkeypatch) -> None:
    """Of the very same sums, so that they agree even where two channels are nearly equal; first of equals."""
    backend = "torch" if variant == "torch" else "cpp"
    monkeypatch.setenv("TOKENGROUPS_RENDER_VARIANT", variant)
    given = {"anchor_ids": torch.arange(20) % 4, "anchor_features": _channels(kind, 4, channels), "backend": backend}
    full = render(_gaussians(), *_cameras(2), (21, 27), **given)
    found = render(_gaussians(), *_cameras(2), (21, 27), argmax=True, **given)
    assert full.features is not None and full.argmax is None and found.features is None and found.argmax is not None
    assert torch.equal(found.argmax, full.features.argmax(dim=-1))
    assert torch.equal(found.colors, full.colors) and torch.equal(found.alphas, full.alphas)
    assert torch.equal(found.depths, full.depths)
    if channels == 40:
        assert (found.argmax[full.alphas == 0] == 0).all() and len(found.argmax.unique()) > 2


def test_argmax_of_some_channels_at_a_time(monkeypatch) -> None:
    monkeypatch.setattr("tokengroups.render.api._VALUES_AT_ONCE", 3 * 2 * 16 * 20)  # three channels
    gaussians, poses, pinholes = _gaussians(degree=0), *_cameras(2)
    for kind in ("signed", "probabilities", "equal"):
        given = {"anchor_ids": torch.arange(20) % 4, "anchor_features": _channels(kind, 4, 40).double()}
        given["backend"] = "torch"
        exact = gaussians.map(lambda values: values.double()), poses.double(), pinholes.double()
        features = render(*exact, (16, 20), **given).features
        found = render(*exact, (16, 20), argmax=True, **given).argmax
        assert features is not None and found is not None
        best = features.amax(dim=-1)
        chosen = features.gather(-1, found[..., None])[..., 0]
        torch.testing.assert_close(
            chosen, best, **tolerance("float64")
        )  # products of another shape round in another way
        assert (found == features.argmax(dim=-1)).float().mean() > 0.95 or kind == "equal"


def test_argmax_of_a_batch_and_without_gradients() -> None:
    gaussians, (poses, pinholes) = _gaussians(2, 3), _cameras(2, 3, 2)
    gaussians.means.requires_grad_()
    features = torch.randn(2, 3, 4, 5, requires_grad=True)
    out = render(
        gaussians, poses, pinholes, (16, 20), anchor_ids=torch.arange(20) % 4, anchor_features=features, argmax=True
    )
    assert out.argmax is not None and out.argmax.shape == (2, 3, 2, 16, 20)
    assert not out.colors.requires_grad


def test_argmax_needs_channels() -> None:
    for features in (None, torch.zeros(4, 0)):
        with pytest.raises(ValueError, match="argmax needs anchor_features of at least one channel"):
            ids = torch.arange(20) % 4
            render(_gaussians(), *_cameras(1), (8, 8), anchor_ids=ids, anchor_features=features, argmax=True)
