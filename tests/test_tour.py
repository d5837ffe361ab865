"""The notebook docs/tour.ipynb runs from top to bottom, and its stored outputs are those of its cells."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "tour.ipynb"
MAX_BYTES = 1_500_000


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def pictures(cell: nbformat.NotebookNode) -> int:
    return sum("image/png" in output.get("data", {}) for output in cell.outputs)


def printed(cell: nbformat.NotebookNode) -> str:
    return "".join(output.text for output in cell.outputs if output.get("name") == "stdout")


@pytest.fixture(scope="module")
def stored() -> nbformat.NotebookNode:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    return notebook


@pytest.fixture(scope="module")
def executed() -> nbformat.NotebookNode:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in code_cells(notebook):
        cell.outputs = []
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(ROOT)}})
    return client.execute()


def test_notebook_is_small_and_was_run_in_order(stored: nbformat.NotebookNode):
    assert NOTEBOOK.stat().st_size < MAX_BYTES
    counts = [cell.execution_count for cell in code_cells(stored)]
    assert counts == list(range(1, len(counts) + 1))
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert not any(place in text for place in (str(Path.home()), str(ROOT), "site-packages"))


def test_every_cell_shows_what_it_showed(stored: nbformat.NotebookNode, executed: nbformat.NotebookNode):
    for before, now in zip(code_cells(stored), code_cells(executed), strict=True):
        assert pictures(now) == pictures(before), now.source
        assert bool(printed(now)) == bool(printed(before)), now.source
    assert sum(pictures(cell) for cell in code_cells(stored)) >= 6


def test_text_finds_the_group_that_is_edited_and_exported(executed: nbformat.NotebookNode):
    outputs = [printed(cell) for cell in code_cells(executed)]
    found = next(text for text in outputs if "'laundry machine': group" in text)
    exported = outputs[-1].splitlines()
    assert "edited.ply" in exported[1]
    assert ["label", "washing", "machine"] in [line.split() for line in exported]
    group = next(line.split()[1] for line in exported if line.startswith("id "))
    assert f"'laundry machine': group {group}," in found
