"""The learning rate of every optimiser step, as a pure function."""

from dataclasses import dataclass
from math import cos, pi

from kilotune.train.recipe import Recipe

WARMUP_SHARE = 0.2  # A short run spends at most this share of its steps warming up; the papers' runs spend 2 to 9 %.


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up from 0 to ``peak`` over ``warmup_steps``, then cosine to 0 at ``total_steps``, or constant."""

    peak: float
    warmup_steps: int
    total_steps: int
    cosine: bool = True

    @classmethod
    def of(cls, recipe: Recipe, steps_per_epoch: int) -> "Schedule":
        """The recipe's schedule; warm-up takes at most a fifth of the run."""
        total = recipe.epochs * steps_per_epoch
        warmup = min(recipe.warmup_epochs * steps_per_epoch, int(WARMUP_SHARE * total))
        return cls(recipe.lr, warmup, total, recipe.schedule == "cosine")

    def rate(self, step: int) -> float:
        """Learning rate of step ``step`` in [0, total_steps) (TraDy, section 5, stepped per iteration).

        The ramp is at 0 before the first step, which therefore already moves: ``peak / warmup_steps``.
        """
        if step < self.warmup_steps:
            return self.peak * ((step + 1) / self.warmup_steps)
        if not self.cosine:
            return self.peak
        return self.peak * 0.5 * (1 + cos(pi * (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)))
