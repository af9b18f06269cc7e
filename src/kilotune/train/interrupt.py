"""Ctrl-C as a wish: the running step is finished first."""

import logging
import signal
import threading
from types import FrameType, TracebackType

logger = logging.getLogger(__name__)


class Interrupt:
    """While entered, the first Ctrl-C only sets ``asked``; the second raises KeyboardInterrupt at once.

    Outside the main thread signals cannot be caught, and Ctrl-C keeps its usual meaning.
    """

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> "Interrupt":
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._main:
            signal.signal(signal.SIGINT, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        logger.warning("stopping after this step; press Ctrl-C again to stop at once")
