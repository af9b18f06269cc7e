"""Bisection that stops as soon as its question is answered: is the largest size that fits at least so large?"""

from collections.abc import Callable, Sequence


class Narrowing:
    """The largest size that fits, known to lie between two sizes that move towards each other.

    runs: sizes in ascending order; within a run more is trained the larger the size. The last run whose first size fits
    is halved; what is found fits even where costs do not rise all along it. Where none fits, the size counts as 0.
    """

    def __init__(self, runs: Sequence[range], fits: Callable[[int], bool]):
        self._runs = [run for run in runs if run]
        self._fits = fits
        self._known: range | None = None  # it is one of these, in the run whose first size fits

    @property
    def least(self) -> int:
        """The largest size that fits is not below this."""
        return self._known[0] if self._known else 0

    @property
    def most(self) -> int:
        """Nor above this."""
        if self._known:
            return self._known[-1]
        return self._runs[-1][-1] if self._runs else 0

    @property
    def settled(self) -> bool:
        """Whether nothing is left to try."""
        return len(self._known) == 1 if self._known else not self._runs

    def step(self) -> None:
        """Try one more size."""
        if self._known is None:
            run = self._runs.pop()
            self._known = run if self._fits(run[0]) else None
            return
        middle = len(self._known) // 2
        self._known = self._known[middle:] if self._fits(self._known[middle]) else self._known[:middle]

    def reaches(self, size: int) -> bool:
        """Whether the largest size that fits is at least ``size``."""
        while self.least < size <= self.most and not self.settled:
            self.step()
        return self.least >= size

    def result(self) -> int | None:
        """The largest size that fits; None if none does."""
        while not self.settled:
            self.step()
        return self._known[0] if self._known else None


def first_worth(share: float, found: Sequence[Narrowing]) -> int:
    """Place of the first of ``found`` whose size is at least ``share`` of the largest of all; no size is sought to the end.

    Whichever leaves most in doubt is narrowed, of the one asked about and the one that may be the largest.
    """
    place = 0
    while True:
        asked, largest = found[place], max(found, key=lambda one: one.most)
        if asked.least >= share * largest.most:
            return place
        if asked.most < share * max(one.least for one in found):
            place += 1
        else:
            max((one for one in (asked, largest) if not one.settled), key=lambda one: one.most - one.least).step()
