"""YAML as plain values: nested mappings of names to texts, numbers, truth values and lists, of bounded size."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from tokengroups.errors import UserError
from tokengroups.reading import malformed, shown

_MOST_NODES = 10_000  # aliases repeat what they stand for: a few lines could mean billions of values
_DEEPEST = 50
_MERGE = "tag:yaml.org,2002:merge"  # of the key <<


def parse_yaml(text: str, where: str) -> Any:
    """Read YAML.

    Raises:
        UserError: Not YAML, or not plain values (see `check_plain`), or too many; its line begins with `where`.
    """
    with malformed(where, "correct it"):
        try:
            value = yaml.load(text, Loader=_Loader)  # noqa: S506 - derived from SafeLoader
        except yaml.YAMLError as error:
            reason = getattr(error, "problem", None) or str(error).splitlines()[0]
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark else ""
            raise UserError(f"{shown(where)}{line}: not valid YAML ({shown(reason)}); correct the file") from None
    check_plain(value, where)
    return value


def check_plain(value: Any, where: str, depth: int = 0) -> None:
    """Refuse what no setting can be: dates, bytes and sets, control characters, and values nested more than 50 deep.

    Raises:
        UserError: Its line begins with `where`.
    """
    if depth > _DEEPEST:
        raise UserError(f"{shown(where)}: nested more than {_DEEPEST} deep; correct it")
    if isinstance(value, dict):
        for name, item in value.items():
            check_plain(name, where, depth)
            check_plain(item, where, depth + 1)
    elif isinstance(value, list):
        for item in value:
            check_plain(item, where, depth + 1)
    elif isinstance(value, str):
        odd = next((c for c in value if c not in "\t\n\r" and unicodedata.category(c) in ("Cc", "Cs")), None)
        if odd is not None:
            raise UserError(f"{shown(where)}: the text '{shown(value)}' holds the character {ord(odd):#x}; remove it")
    elif value is not None and not isinstance(value, (bool, int, float)):
        kind = type(value).__name__
        raise UserError(f"{shown(where)}: {shown(value)} is a {kind} to YAML, which no setting is; quote texts")


class _Loader(yaml.SafeLoader):
    """YAML in which ``1e-3`` is a number (YAML 1.1 wants ``1.0e-3``) and keys are texts that are not repeated.

    What aliases stand for counts every time against the largest number of nodes.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.reached = 0  # nodes so far, those behind aliases included
        self.sizes: dict[int, int] = {}  # of finished nodes, by identity

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Read a node with all below it, and count them."""
        is_alias, start = self.check_event(yaml.AliasEvent), self.reached
        mark = self.peek_event().start_mark
        node = super().compose_node(parent, index)
        if is_alias and id(node) not in self.sizes:
            raise ComposerError(None, None, "an alias inside of what it stands for", mark)
        self.reached += self.sizes[id(node)] if is_alias else 1
        if self.reached > _MOST_NODES:
            raise ComposerError(None, None, f"more than {_MOST_NODES:,} values", mark)
        if not is_alias:
            self.sizes[id(node)] = self.reached - start
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping, refusing repeated keys and keys that are no texts."""
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str) or key in seen:
                problem = "is repeated" if isinstance(key, str) else "is no text"
                where = key_node.start_mark
                raise ConstructorError(None, None, f"key '{shown(key)}' {problem}", where)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)
