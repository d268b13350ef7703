from pathlib import Path

import pytest

from tests.fuzz.mutants import prepare, run_all


@pytest.mark.parametrize("seed", range(30))
def test_mutant_gives_no_traceback(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    assert run_all(seed) == []
