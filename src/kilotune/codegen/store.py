"""What the weight store costs: pages, bytes and wear of a commit, and whether a policy can do without one."""

from dataclasses import dataclass
from math import inf

from kilotune.errors import ExportError
from kilotune.units import format_bytes

HEADER_BYTES = 64
"""Description and seal at the start of a bank (``KT_STORE_HEADER``)."""
UNIT_BYTES = 32
"""Size and alignment of every write (``KT_STORE_UNIT``)."""
PAGE_BYTES = 4096
"""Bytes that are erased together, where nothing else is said."""
N_BANKS = 2


@dataclass(frozen=True)
class Medium:
    """Where committed weights live. endurance: erases that a page survives; infinite for RAM."""

    name: str
    page_bytes: int
    n_pages: int
    endurance: float = inf

    @property
    def nbytes(self) -> int:
        """Size of the medium."""
        return self.page_bytes * self.n_pages


@dataclass(frozen=True)
class StoreAccount:
    """Costs of keeping an image of ``image_bytes`` on a medium, in two banks of whole pages."""

    image_bytes: int
    medium: Medium

    @property
    def n_pages(self) -> int:
        """Pages of both banks."""
        return N_BANKS * -(-(HEADER_BYTES + self._padded) // self.medium.page_bytes)

    @property
    def nbytes(self) -> int:
        """Bytes of both banks."""
        return self.n_pages * self.medium.page_bytes

    @property
    def bytes_per_commit(self) -> int:
        """Bytes that a commit writes: the image in whole units, and the header."""
        return HEADER_BYTES + self._padded

    @property
    def erases_per_page_and_commit(self) -> float:
        """Banks take turns."""
        return 1 / N_BANKS

    def commits_until_worn(self) -> float:
        """Commits that the medium survives."""
        return self.medium.endurance / self.erases_per_page_and_commit

    def epochs_until_worn(self, commits_per_epoch: int) -> float:
        """Epochs that the medium survives."""
        return self.commits_until_worn() / commits_per_epoch

    @property
    def _padded(self) -> int:
        return -(-self.image_bytes // UNIT_BYTES) * UNIT_BYTES


def check_store(policy: str, image_bytes: int, nbytes: int) -> None:
    """Refuse a policy that changes its choice where there is nowhere to commit what it trained.

    image_bytes: 0 of a policy that chooses once. nbytes: size of the store, 0 where there is none.
    Raises ExportError if there is no store, or the two banks do not fit it.
    """
    if not image_bytes:
        return
    if not nbytes:
        raise ExportError(
            f"policy {policy} draws new channels while it trains and must commit what it trained, {format_bytes(image_bytes)}, "
            "but there is no weight store; give it one with --store, or use a policy that draws once"
        )
    medium = Medium("the store", PAGE_BYTES, nbytes // PAGE_BYTES)
    account = StoreAccount(image_bytes, medium)
    if account.nbytes > medium.nbytes:
        raise ExportError(
            f"policy {policy} commits {format_bytes(image_bytes)}, two banks of which take {format_bytes(account.nbytes)}; "
            f"{medium.name} has {format_bytes(medium.nbytes)} in pages of {format_bytes(medium.page_bytes)}; "
            "use a larger store, or a smaller pool of layers"
        )


def flash_of(image_bytes: int, page_bytes: int = PAGE_BYTES) -> int:
    """Bytes of a medium of such pages that just holds a store, 0 where nothing is committed."""
    return StoreAccount(image_bytes, Medium("flash", page_bytes, 0)).nbytes if image_bytes else 0
