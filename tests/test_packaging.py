"""The package as a stranger meets it: metadata, layout, entry points, public names, configurations."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tokengroups

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_version_is_said_once() -> None:
    assert importlib.metadata.version("tokengroups") == tokengroups.__version__


@pytest.mark.parametrize("name", tokengroups.__all__)
def test_public_name_exists(name: str) -> None:
    assert getattr(tokengroups, name) is not None


def test_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tokengroups.nothing


def test_import_and_help_load_no_heavy_library() -> None:
    code = (
        "import sys, contextlib, io\n"
        "from tokengroups.cli.main import build_parser\n"
        "build_parser().format_help()\n"
        "print(sorted({'torch', 'numpy', 'PIL', 'scipy'} & sys.modules.keys()))\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_console_script_and_module_answer_alike() -> None:
    script = Path(sys.executable).with_name("tokengroups")
    by_script = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
    by_module = subprocess.run(
        [sys.executable, "-m", "tokengroups", "--help"], capture_output=True, text=True, check=True
    )
    assert by_script.stdout == by_module.stdout
    for command in ("demo", "reconstruct", "list", "render", "edit", "export", "import", "evaluate", "data", "train", "info"):
        assert re.search(rf"^ +{command}\b", by_script.stdout, re.MULTILINE), command


def test_pinned_versions_lie_in_the_declared_ranges() -> None:
    from packaging.requirements import Requirement

    declared = {r.name: r.specifier for r in map(Requirement, PYPROJECT["project"]["dependencies"])}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            version = next(iter(pin.specifier)).version
            assert pin.name not in declared or declared[pin.name].contains(version)


def test_shipped_weights_stay_small() -> None:
    weights = ROOT / "tokengroups" / "weights"
    assert sum(f.stat().st_size for f in weights.rglob("*") if f.is_file()) <= 30 * 2**20


def test_no_source_file_names_a_machine() -> None:
    """Paths of a machine, and hosts of a registry, work for nobody else."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if not tracked:
        pytest.skip("not a git checkout")
    pattern = re.compile(r"[\"' =(]/(home|root|mnt|work)/[A-Za-z]|https?://[^ ]*/simple\b")
    for name in tracked.splitlines():
        path = ROOT / name
        if path.suffix in {".py", ".toml", ".txt", ".md", ".yaml", ".cpp", ".h"} and path.name != Path(__file__).name:
            found = pattern.search(path.read_text())
            assert found is None, f"{name}: {found}"
