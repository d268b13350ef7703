import subprocess
import sys
from pathlib import Path

from sdbench.store.lock import hold_device

TAKE = """
import sys
from pathlib import Path
from sdbench.store.lock import hold_device
with hold_device("gpu", lambda who: print("waiting for", who, flush=True), Path(sys.argv[1])):
    print("held", flush=True)
"""


def test_second_holder_waits_until_the_first_is_done(tmp_path: Path) -> None:
    with hold_device("gpu", lambda _who: None, tmp_path):
        other = subprocess.Popen([sys.executable, "-c", TAKE, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        assert other.stdout.readline().startswith("waiting for process ")
    output, _ = other.communicate(timeout=30)
    assert output == "held\n"
    assert len(list(tmp_path.iterdir())) == 1, "the lock file stays"


def test_two_devices_do_not_wait_for_each_other(tmp_path: Path) -> None:
    waited: list[str] = []
    with hold_device("a", waited.append, tmp_path), hold_device("b", waited.append, tmp_path):
        assert waited == []
