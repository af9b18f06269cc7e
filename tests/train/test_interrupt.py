import os
import signal
import threading

import pytest

from kilotune.train.interrupt import Interrupt


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_first_asks_second_raises():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Interrupt() as interrupt:  # noqa: PT012
        assert not interrupt.asked
        press_ctrl_c()
        assert interrupt.asked
        press_ctrl_c()
    assert signal.getsignal(signal.SIGINT) is before


def test_once_only_asks():
    with Interrupt() as interrupt:
        press_ctrl_c()
    assert interrupt.asked


def test_in_another_thread_nothing_is_caught():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with Interrupt():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
