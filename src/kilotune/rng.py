"""The portable generator: PCG32 (O'Neill 2014), the same integers in Python and in C for a seed."""

import numpy as np

_MULTIPLIER = 6364136223846793005
_MASK64 = (1 << 64) - 1
_MASK32 = (1 << 32) - 1


class Pcg32:
    """PCG-XSH-RR 64/32 with state ``(state, increment)``; one instance per independent sequence of draws."""

    def __init__(self, seed: int, stream: int = 0):
        self._increment = ((stream << 1) | 1) & _MASK64
        self._state = 0
        self.next_u32()
        self._state = (self._state + seed) & _MASK64
        self.next_u32()

    def next_u32(self) -> int:
        """The next integer, uniform on [0, 2**32)."""
        old = self._state
        self._state = (old * _MULTIPLIER + self._increment) & _MASK64
        word = (((old >> 18) ^ old) >> 27) & _MASK32
        turn = old >> 59
        return ((word >> turn) | (word << (-turn & 31))) & _MASK32

    def words(self, n: int) -> np.ndarray:
        """The next ``n`` integers at once, (n,) uint32."""
        if n == 0:
            return np.zeros(0, np.uint32)
        powers = np.multiply.accumulate(np.full(n, _MULTIPLIER, np.uint64))  # modulo 2**64, as the state is
        sums = np.add.accumulate(np.concatenate([np.ones(1, np.uint64), powers[:-1]]))
        after = powers * np.uint64(self._state) + sums * np.uint64(self._increment)
        old = np.concatenate([np.array([self._state], np.uint64), after[:-1]])
        self._state = int(after[-1])
        word = (((old >> np.uint64(18)) ^ old) >> np.uint64(27)).astype(np.uint32)
        turn = (old >> np.uint64(59)).astype(np.uint32)
        return (word >> turn) | (word << (-turn & np.uint32(31)))

    def below(self, bound: int) -> int:
        """An integer uniform on [0, bound), 1 <= bound <= 2**32, without modulo bias (rejection)."""
        threshold = (1 << 32) % bound
        while True:
            word = self.next_u32()
            if word >= threshold:
                return word % bound

    def shuffled(self, n: int) -> list[int]:
        """A uniform permutation of ``range(n)`` (Fisher-Yates, from the last place down)."""
        order = list(range(n))
        for last in range(n - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order

    def state(self) -> tuple[int, int]:
        """What ``restore`` needs to continue the sequence."""
        return self._state, self._increment

    @classmethod
    def restore(cls, state: tuple[int, int]) -> "Pcg32":
        """The generator that ``state`` was taken from."""
        rng = cls(0)
        rng._state, rng._increment = state
        return rng
