import pytest

from tokengroups.errors import UserError
from tokengroups.registry import resolve

BUILTIN = {"path": "pathlib:Path"}


def test_builtin_names_and_import_paths():
    from collections import OrderedDict
    from pathlib import Path

    assert resolve("path", BUILTIN, "thing") is Path
    assert resolve("collections:OrderedDict", BUILTIN, "thing") is OrderedDict


def test_a_module_in_the_working_folder_is_found(tmp_path, monkeypatch):
    (tmp_path / "own_part_for_registry.py").write_text("class Part:\n    pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["/nowhere"])
    assert resolve("own_part_for_registry:Part", BUILTIN, "thing").__name__ == "Part"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pth", "no thing 'pth'; choose from path"),
        ("no_such_module_here:Part", "no module no_such_module_here"),
        ("pathlib:Part", "pathlib has no Part"),
    ],
)
def test_unknown_names_are_refused(name, message):
    with pytest.raises(UserError, match=message):
        resolve(name, BUILTIN, "thing")


def test_a_file_cannot_import_a_module_of_its_choice(tmp_path, monkeypatch):
    (tmp_path / "planted_part.py").write_text("raise SystemExit('was imported')\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="import planted_part first"):
        resolve("planted_part:Part", BUILTIN, "thing", typed=False)


@pytest.mark.parametrize(
    "name", ["..a:B", ":B", "a..b:C", "a b:C", "a\0:B", "a\x1b[2J:B", "\ud800:B", "json:\x1b", "a" * 9999]
)
def test_names_that_no_module_or_class_can_have_are_one_printable_line(name: str) -> None:
    with pytest.raises(UserError, match="no thing '|a file asks") as caught:
        resolve(name, {}, "thing")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 700
