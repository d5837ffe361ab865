"""The package as a stranger meets it: metadata, entry points, public names, what is shipped."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import tokengroups
from tokengroups.cli.main import COMMANDS, main
from tokengroups.io.pixels import write_pixels

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_version_is_said_once() -> None:
    assert importlib.metadata.version("tokengroups") == tokengroups.__version__


@pytest.mark.parametrize("name", tokengroups.__all__)
def test_public_name_exists(name: str) -> None:
    assert getattr(tokengroups, name) is not None


def test_type_checkers_and_users_see_the_same_public_names() -> None:
    stub = ast.parse((ROOT / "tokengroups" / "__init__.pyi").read_text())
    imported = [alias for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert all(alias.asname == alias.name for alias in imported)  # else checkers take it for private
    assert sorted(alias.name for alias in imported) == tokengroups.__all__ == dir(tokengroups)


def test_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="attribute nothing"):
        _ = tokengroups.nothing


def test_import_and_help_load_no_heavy_library() -> None:
    code = (
        "import sys\n"
        "from tokengroups.cli.main import build_parser\n"
        "build_parser().format_help()\n"
        "print(sorted({'torch', 'numpy', 'PIL', 'scipy'} & sys.modules.keys()))\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_console_script_and_module_answer_alike() -> None:
    script = str(Path(sys.executable).with_name("tokengroups"))
    commands = ([script], [sys.executable, "-m", "tokengroups"])
    by_script, by_module = (
        subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout for command in commands
    )
    assert by_script == by_module
    for command in COMMANDS:
        assert re.search(rf"^ +{command}\b", by_script, re.MULTILINE), command


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert "examples:" in capsys.readouterr().out


def test_every_imported_library_is_declared() -> None:
    """An undeclared import works until the library that brought it along no longer does."""
    imported = set()
    for path in (ROOT / "tokengroups").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    foreign = imported - set(sys.stdlib_module_names) - {"tokengroups"}
    project = PYPROJECT["project"]
    extras = (
        project["optional-dependencies"][name]
        for name in ("colmap", "curation", "hdbscan", "heic", "spz", "text", "video", "view")
    )
    lines = [*project["dependencies"], *(line for extra in extras for line in extra)]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    providers = importlib.metadata.packages_distributions()
    missing = {name for name in foreign if not declared & {canonicalize_name(p) for p in providers.get(name, [])}}
    assert missing == set()


def test_readme_quick_start_runs(tmp_path: Path, random_weights: Path, monkeypatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 10
    for name in ("a.jpg", "b.jpg"):
        pixels = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
        write_pixels(tmp_path / name, pixels)
    ids = "scene.group_ids.tolist()"
    replaced = {'"token_groups_tiny"': repr(str(random_weights)), "[7]": f"{ids}[:1]", " 3, (": f" {ids}[1], ("}
    for old, new in replaced.items():
        assert old in code
        code = code.replace(old, new)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert (tmp_path / "edited.safetensors").is_file()
    assert [tuple(view.color.shape) for view in names["views"]] == [(48, 64, 3)] * 2


def test_pinned_versions_lie_in_the_declared_ranges() -> None:
    declared = {r.name: r.specifier for r in map(Requirement, PYPROJECT["project"]["dependencies"])}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            version = next(iter(pin.specifier)).version
            assert pin.name not in declared or declared[pin.name].contains(version)


def test_shipped_weights_stay_small() -> None:
    weights = ROOT / "tokengroups" / "weights"
    assert sum(file.stat().st_size for file in weights.rglob("*") if file.is_file()) < 60_000_000


def test_no_tracked_file_names_a_machine() -> None:
    """Paths of one machine, and hosts of one registry, work for nobody else."""
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    pattern = re.compile(r"[\"' =(]/(home|root|mnt|work)/[A-Za-z]|https?://[^ ]*/simple\b")
    text_suffixes = {".py", ".toml", ".txt", ".md", ".yaml", ".cpp", ".h", ""}
    for path in (ROOT / name for name in listing.stdout.splitlines()):
        if path.exists() and path.suffix in text_suffixes and path.name != Path(__file__).name:
            found = pattern.search(path.read_text())
            assert found is None, f"{path.relative_to(ROOT)}: {found}"


def test_package_data_names_every_file_that_is_not_python() -> None:
    packed = set()
    for package, patterns in PYPROJECT["tool"]["setuptools"]["package-data"].items():
        folder = ROOT / package.replace(".", "/")
        packed |= {path for pattern in patterns for path in folder.glob(pattern)}
    made = {"__pycache__", "_native"}
    files = {path for path in (ROOT / "tokengroups").rglob("*") if path.is_file() and path.suffix != ".py"}
    assert {path for path in files if not made & set(path.parts)} <= packed
