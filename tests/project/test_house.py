"""The shape of the house: no circle, no command that imports another, no file with two subjects."""

import ast
from collections import Counter
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "sdbench").rglob("*.py"))
# Modules of the command line that several commands share.
SHARED = {"main", "options", "output", "run_folders", "filters", "progress", "live"}
SHARED |= {"print_summary", "print_comparison"}
LINES_MAX = 300
# The whole package. A feature that is worth its lines raises this in the same commit.
LINES_IN_ALL_MAX = 42_200
# Session (stored, and of a workload), Source (of a manifest, and of a report).
SAME_NAMES_MAX = 5


def imports() -> dict[str, set[str]]:
    graph = grimp.build_graph("sdbench", exclude_type_checking_imports=True)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def test_no_modules_import_each_other_in_a_circle() -> None:
    waiting = imports()
    while leaves := {module for module, imported in waiting.items() if not imported & waiting.keys()}:
        waiting = {module: imported for module, imported in waiting.items() if module not in leaves}
    assert waiting == {}


def test_no_command_imports_another() -> None:
    commands = {
        f"sdbench.cli.{path.stem}" for path in (ROOT / "sdbench" / "cli").glob("*.py") if path.stem not in SHARED
    }
    commands.discard("sdbench.cli.__init__")
    assert {
        module: used for module, imported in imports().items() if module in commands and (used := imported & commands)
    } == {}


def test_no_file_has_two_subjects() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: count for name, count in lengths.items() if count > LINES_MAX} == {}


def test_the_house_stays_small() -> None:
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in FILES) <= LINES_IN_ALL_MAX


def test_few_classes_share_a_name() -> None:
    names = Counter(
        node.name
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert len([name for name, count in names.items() if count > 1]) <= SAME_NAMES_MAX
