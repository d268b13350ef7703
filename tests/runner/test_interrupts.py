import os
import signal
import threading

import pytest

from sdbench.runner.interrupts import interrupts_held, terminate_as_interrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_waits_for_the_end_of_the_block_also_beside_other_threads(number: signal.Signals) -> None:
    release = threading.Event()
    other = threading.Thread(target=release.wait)
    other.start()
    done = False
    try:
        with pytest.raises(KeyboardInterrupt), interrupts_held():
            os.kill(os.getpid(), number)
            done = True
    finally:
        release.set()
        other.join()
    assert done


def test_block_without_an_interrupt_raises_nothing_and_restores_the_handlers() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interrupts_held():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_sigterm_becomes_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt), terminate_as_interrupt():
        os.kill(os.getpid(), signal.SIGTERM)
        signal.sigtimedwait([], 5)
