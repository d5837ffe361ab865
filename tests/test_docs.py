"""What the documents say about the package: paths exist, links lead somewhere, the table of layers is the linter's."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tokengroups

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tokengroups"
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CONVENTIONS.md")]
DOCUMENTS += sorted((ROOT / "docs").glob("*.md"))

_CODE = re.compile(r"```.*?```", re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"[\w.]+(?:/[\w.]+)*/?")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def layers() -> list[set[str]]:
    """The layers of pyproject.toml, highest first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layered,) = [contract for contract in contracts if contract["type"] == "layers"]
    return [set(re.split(r"\s*[|:]\s*", layer)) for layer in layered["layers"]]


def paths_in(document: Path) -> list[str]:
    """Every path of a module or folder that stands in backticks: it has a slash, or ends in .py."""
    spans = _SPAN.findall(_CODE.sub("", document.read_text()))
    return [span for span in spans if _PATH.fullmatch(span) and ("/" in span or span.endswith(".py"))]


def test_contributing_lists_the_layers_that_the_linter_enforces():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    table = text[text.index("| modules, highest layer first |") :].split("\n\n")[0].splitlines()[2:]
    assert [set(_SPAN.findall(row.split("|")[1])) for row in table] == layers()


def test_every_module_has_a_layer():
    modules = {path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")}
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert set.union(*layers()) == modules | packages


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_paths_in_documents_exist(document: Path):
    missing = [name for name in paths_in(document) if not any((base / name).exists() for base in (ROOT, PACKAGE))]
    made_by_commands = ("out/", "runs/")
    assert [name for name in missing if not name.startswith(made_by_commands)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_in_documents_lead_somewhere(document: Path):
    links = [link for link in _LINK.findall(document.read_text()) if "://" not in link]
    for link in links:
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        assert target.exists(), f"{document.name}: {link}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in slugs, f"{document.name}: {link}"


@pytest.mark.parametrize("name", sorted(tokengroups.__all__))
def test_public_names_have_an_example(name: str):
    assert ">>>" in (getattr(tokengroups, name).__doc__ or "")


def test_reference_lists_modules_below_a_package(tmp_path: Path):
    options = ["--docformat", "google", "--template-directory", str(ROOT / "docs" / "reference")]
    modules = ["tokengroups.retrieval", "tokengroups.retrieval.search"]  # __all__ names no module
    subprocess.run([sys.executable, "-m", "pdoc", *options, "-o", tmp_path, *modules], check=True, cwd=ROOT)
    page = (tmp_path / "tokengroups" / "retrieval.html").read_text()
    assert 'href="retrieval/search.html"' in page
    assert ">find_groups</" in page


def test_architecture_names_paths():
    assert len(paths_in(ROOT / "docs" / "architecture.md")) > 20
