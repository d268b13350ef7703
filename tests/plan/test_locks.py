"""Lock files of packages, and the steps from one to another."""

from pathlib import Path

import pytest

from sdbench.errors import UserError
from sdbench.plan.locks import Installed, Lock, changed_names, format_lock, mix_locks, order_steps, read_lock

GOOD = """\
# written by pip freeze
--extra-index-url https://example.org/simple
Alpha_One==1.0 \\
    --hash=sha256:00 \\
    --hash=sha256:01
beta[extra]==2.0 ; python_version >= "3.8"  # why
gamma==3.0
"""
BAD = "alpha-one==1.1\nbeta==2.0\ndelta==4.0\n"


def write(folder: Path, text: str, name: str = "lock.txt") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def locks(folder: Path) -> tuple[Lock, Lock]:
    return read_lock(write(folder, GOOD, "good.txt")), read_lock(write(folder, BAD, "bad.txt"))


def test_a_lock_has_its_pins_by_normalized_names(tmp_path: Path) -> None:
    good, _ = locks(tmp_path)
    assert good.names == ("alpha-one", "beta", "gamma")
    assert good.options == ("--extra-index-url https://example.org/simple",)
    assert good.pins["alpha-one"] == "Alpha_One==1.0 --hash=sha256:00 --hash=sha256:01"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alpha>=1.0\n", r":1: 'alpha>=1.0' pins no package; expected NAME==VERSION"),
        ("alpha==1.0\n-r other.txt\n", r":2: '-r other.txt' pins no package"),
        ("alpha==1.*\n", "pins no package"),
        ("# nothing\n", "pins no package"),
    ],
)
def test_what_pins_nothing_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_lock(write(tmp_path, text))


def test_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the lock file"):
        read_lock(tmp_path / "none.txt")


def test_changed_added_and_removed_packages_are_the_difference(tmp_path: Path) -> None:
    assert changed_names(*locks(tmp_path)) == ("alpha-one", "delta", "gamma")


def test_mixed_lock_names_what_it_has_not_and_is_read_back(tmp_path: Path) -> None:
    good, bad = locks(tmp_path)
    mixed = mix_locks(good, bad, frozenset({"alpha-one", "gamma"}))
    assert mixed.pins["alpha-one"] == "alpha-one==1.1"
    assert mixed.without == {"gamma", "delta"}
    assert read_lock(write(tmp_path, format_lock(mixed))) == mixed


def installed(**packages: tuple[str, str]) -> dict[str, Installed]:
    return {
        name: Installed(version, tuple(filter(None, needs.split(", ")))) for name, (version, needs) in packages.items()
    }


def test_packages_without_requirements_change_one_at_a_time() -> None:
    old, new = installed(a=("1", ""), b=("1", "")), installed(a=("2", ""), b=("2", ""))
    assert order_steps(["a", "b"], old, new) == (("a",), ("b",))


def test_a_package_changes_with_what_its_new_version_needs() -> None:
    old = installed(a=("1", "b"), b=("1", ""), c=("1", "b<3"))
    new = installed(a=("2", "b>=2"), b=("2", ""), c=("1", "b<3"))
    # b alone is fine: a 1 takes any.
    assert order_steps(["a", "b"], old, new) == (("b",), ("a",))
    strict = old | installed(a=("1", "b<2"))
    assert order_steps(["a", "b"], strict, new) == (("a", "b"),)


def test_added_and_removed_packages_move_with_what_requires_them() -> None:
    old = installed(a=("1", "gone"), gone=("1", ""), z=("1", ""))
    new = installed(a=("2", "added"), added=("1", ""), z=("2", ""))
    assert order_steps(["a", "added", "gone", "z"], old, new) == (("added",), ("a",), ("gone",), ("z",))


def test_requirements_of_extras_and_other_systems_bind_nothing() -> None:
    needs = "b>=9; extra == 'all', b>=9; sys_platform == 'nowhere'"
    old, new = installed(a=("1", ""), b=("1", "")), installed(a=("2", needs), b=("2", ""))
    assert order_steps(["a", "b"], old, new) == (("a",), ("b",))


def test_requirement_that_nothing_can_meet_ends_the_search() -> None:
    old, new = installed(a=("1", "missing"), b=("1", "")), installed(a=("2", "missing"), b=("2", ""))
    assert order_steps(["a", "b"], old, new) == (("a",), ("b",))
