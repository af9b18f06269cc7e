"""The account of the weight store; that it is what the C store does is in ``tests/runtime/test_store.py``."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilotune.codegen.store import HEADER_BYTES, Medium, StoreAccount, check_store
from kilotune.errors import ExportError

FLASH = Medium("flash", page_bytes=4096, n_pages=100, endurance=10_000)


@given(st.integers(1, 10**6), st.sampled_from([128, 1024, 4096, 131072]))
def test_two_banks_of_whole_pages(image_bytes, page_bytes):
    account = StoreAccount(image_bytes, Medium("flash", page_bytes, 0))
    assert account.n_pages % 2 == 0
    bank = account.nbytes // 2
    assert bank - page_bytes < account.bytes_per_commit <= bank
    assert 0 <= account.bytes_per_commit - HEADER_BYTES - image_bytes < 32


def test_wear():
    """A page is erased at every second commit."""
    account = StoreAccount(100_000, FLASH)
    assert account.commits_until_worn() == 20_000
    assert account.epochs_until_worn(commits_per_epoch=1) == 20_000
    assert account.epochs_until_worn(commits_per_epoch=500) == 40
    assert StoreAccount(100, Medium("external RAM", 32, 100)).commits_until_worn() == inf


def test_policies_that_redraw_need_a_store():
    check_store("medyate", 100_000, FLASH.nbytes)
    check_store("static_random", 0, 0)
    with pytest.raises(
        ExportError, match=r"policy medyate draws new channels .* 100,000 B .* there is no weight store"
    ):
        check_store("medyate", 100_000, 0)
    with pytest.raises(
        ExportError, match=r"two banks of which take 606,208 B .*; the store has 409,600 B .*; use a larger"
    ):
        check_store("trady", 300_000, FLASH.nbytes)
