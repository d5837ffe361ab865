"""The package as a stranger meets it: metadata, entry points, public names, what is shipped."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import tokengroups
from tokengroups.cli.main import COMMANDS, main

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
        subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
        for command in commands
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


def test_pinned_versions_lie_in_the_declared_ranges() -> None:
    declared = {r.name: r.specifier for r in map(Requirement, PYPROJECT["project"]["dependencies"])}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            version = next(iter(pin.specifier)).version
            assert pin.name not in declared or declared[pin.name].contains(version)


def test_shipped_weights_stay_small() -> None:
    weights = ROOT / "tokengroups" / "weights"
    assert sum(file.stat().st_size for file in weights.rglob("*") if file.is_file()) <= 30 * 2**20


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
