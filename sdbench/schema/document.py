"""YAML 1.2 text into plain values, with the line and column of each: duplicates, tags and bombs are refused."""

import re
from dataclasses import dataclass
from math import isinf
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import MaxDepthExceededError
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from sdbench.errors import ManifestError

Path = tuple[str | int, ...]
Mark = tuple[int, int]

# The whole 2022 study needs about 10 kB; a thousand times that is not a manifest.
MAX_TEXT_BYTES = 1_000_000
# Aliases expand: nine lines of nine aliases each make 10^9 values. A manifest of 10,000 experiments needs far fewer.
MAX_VALUES = 100_000
MAX_DEPTH = 32

_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = {_TAG + name for name in ("str", "int", "float", "bool", "null", "timestamp", "value", "seq", "map")}
# YAML 1.2.2, section 10.3.2 (core schema): so 1e-3 is a number and on, off, yes and no are words.
_NULL = re.compile(r"null|Null|NULL|~|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


@dataclass(frozen=True)
class Document:
    """A parsed document: its value (JSON types), and the position (line, column; from 1) of each key and item."""

    name: str
    value: Any
    marks: dict[Path, Mark]

    def locate(self, path: Path) -> tuple[Path, str]:
        """Return the deepest part of ``path`` that was written, and its ``name:line:column``."""
        while path not in self.marks and path:
            path = path[:-1]
        line, column = self.marks.get(path, (1, 1))
        return path, f"{self.name}:{line}:{column}"


def parse_yaml(text: str, name: str) -> Document:
    """Return the document in ``text``; ``name`` stands for it in messages.

    Raises:
        ManifestError: not YAML, more than one document, a duplicate key, a tag, a cycle, or too large.
    """
    if len(text) > MAX_TEXT_BYTES:
        msg = f"{name}:1:1: {len(text):,} characters are too many for a manifest; at most {MAX_TEXT_BYTES:,}: split it"
        raise ManifestError(msg)
    try:
        yaml = YAML(typ="safe", pure=True)
        # Stops early: 10,000 open brackets cost the scanner 5 s before Python's stack ends.
        yaml.max_depth = MAX_DEPTH + 1
        yaml.composer.warn_double_anchors = False
        node = yaml.compose(text)
    except (YAMLError, RecursionError, ValueError) as error:
        raise ManifestError(f"{name}:{_explain(error)}") from None
    if node is None:
        raise ManifestError(f"{name}:1:1: the file is empty; start with 'schema: sdbench/manifest/v1'")
    reader = _Reader(name)
    return Document(name=name, value=reader.read(node, (), ()), marks=reader.marks)


def _explain(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
    if isinstance(error, MaxDepthExceededError):
        return f"{where}: nested deeper than {MAX_DEPTH} levels; flatten it"
    problem = getattr(error, "problem", None) or f"{type(error).__name__} {error}"
    return f"{where}: invalid YAML: {' '.join(str(problem).split())[:200]}; fix the syntax"


class _Reader:
    """Converts nodes into values and keeps their marks, refusing what a manifest cannot contain."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.marks: dict[Path, Mark] = {}
        self.count = 0

    def read(self, node: Node, path: Path, above: tuple[int, ...]) -> Any:
        self.marks.setdefault(path, self._mark(node))
        self.count += 1
        if self.count > MAX_VALUES:
            raise self._error(node, f"more than {MAX_VALUES:,} values after expanding aliases; write less")
        if id(node) in above:
            raise self._error(node, "an alias contains itself; write the value out")
        if len(above) > MAX_DEPTH:
            raise self._error(node, f"nested deeper than {MAX_DEPTH} levels; flatten it")
        if node.tag not in _PLAIN_TAGS:
            raise self._error(node, f"tag {node.tag!r} is not allowed; write plain values")
        inside = (*above, id(node))
        if isinstance(node, ScalarNode):
            return self._scalar(node)
        if isinstance(node, MappingNode):
            return self._mapping(node, path, inside)
        return [self.read(item, (*path, index), inside) for index, item in enumerate(node.value)]

    def _mapping(self, node: MappingNode, path: Path, inside: tuple[int, ...]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                raise self._error(key_node, "a key must be a word; write 'key: value'")
            key = self._text(key_node)
            if key == "<<":
                raise self._error(key_node, "merge keys ('<<') are not YAML 1.2; use defaults or write the keys out")
            if key in values:
                first_line = self.marks[(*path, key)][0]
                raise self._error(key_node, f"duplicate key {key!r}, first on line {first_line}; keep one")
            self.marks[(*path, key)] = self._mark(key_node)
            values[key] = self.read(value_node, (*path, key), inside)
        return values

    def _scalar(self, node: ScalarNode) -> Any:
        text = self._text(node)
        if node.style is not None or node.tag == _TAG + "str":
            return text
        if _NULL.fullmatch(text):
            return None
        if _BOOL.fullmatch(text):
            return text.lower() == "true"
        if _INT.fullmatch(text):
            if len(text) > 40:  # noqa: PLR2004 - no option needs more digits, and int() of many is slow
                raise self._error(node, f"a number of {len(text)} digits is too long; shorten it")
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if _FLOAT.fullmatch(text):
            number = float(text)
            if isinf(number):
                raise self._error(node, f"{text} is too large for a number; at most about 1.8e308")
            return number
        return text

    def _text(self, node: ScalarNode) -> str:
        text = str(node.value)
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise self._error(node, "half of a surrogate pair is not a character; write the character itself")
        return text

    def _mark(self, node: Node) -> Mark:
        return node.start_mark.line + 1, node.start_mark.column + 1

    def _error(self, node: Node, problem: str) -> ManifestError:
        line, column = self._mark(node)
        return ManifestError(f"{self.name}:{line}:{column}: {problem}")
