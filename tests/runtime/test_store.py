"""The weight store on a simulated flash: power fails at every single erase and write, and whole or half of it was done."""

import ctypes
import zlib
from collections.abc import Callable
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kilotune.codegen.store import HEADER_BYTES, UNIT_BYTES, Medium, StoreAccount

COMMITTED, EMPTY, OLDER, FAILED, CORRUPT, FOREIGN = 0, 1, 2, -2, -3, -5
PAGE_BYTES, IMAGE_BYTES, IDENTITY = 256, 1000, 0xC0FFEE
ERASED = 0xFF

READ = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32)
ERASE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint32)


class MediumStruct(ctypes.Structure):
    _fields_ = [
        ("read", READ),
        ("erase", ERASE),
        ("write", READ),
        ("page_bytes", ctypes.c_uint32),
        ("n_pages", ctypes.c_uint32),
        ("map", ctypes.c_void_p),
    ]


class StoreStruct(ctypes.Structure):
    _fields_ = [
        ("medium", ctypes.POINTER(MediumStruct)),
        *[(name, ctypes.c_uint32) for name in ("image_bytes", "identity", "bank", "sequence", "place", "crc")],
        ("unit", ctypes.c_uint8 * UNIT_BYTES),
    ]


class Flash:
    """Pages whose bits only an erase sets; the power fails at operation ``cut``, of which ``done`` (0 to 1) still happens."""

    def __init__(self, n_pages: int = 10):
        self.cells = np.full(n_pages * PAGE_BYTES, ERASED, np.uint8)
        self.erases = np.zeros(n_pages, int)
        self.operations = self.bytes_written = 0
        self.cut, self.done = None, 0.0
        self.struct = MediumStruct(READ(self._read), ERASE(self._erase), READ(self._write), PAGE_BYTES, n_pages, None)

    def _fails(self) -> bool:
        self.operations += 1
        return self.cut is not None and self.operations >= self.cut

    def _part(self, n: int) -> int:
        return int(n * self.done) if self.operations == self.cut else 0

    def _read(self, address: int, to: int, n: int) -> int:
        ctypes.memmove(to, self.cells[address : address + n].tobytes(), n)
        return 0

    def _erase(self, page: int) -> int:
        fails = self._fails()
        n = self._part(PAGE_BYTES) if fails else PAGE_BYTES
        self.erases[page] += 1
        self.cells[page * PAGE_BYTES : page * PAGE_BYTES + n] = ERASED
        return -fails

    def _write(self, address: int, source: int, n: int) -> int:
        assert n == UNIT_BYTES, "one unit at a time"
        assert address % UNIT_BYTES == 0, "aligned"
        fails = self._fails()
        if not fails:
            assert (self.cells[address : address + n] == ERASED).all(), "on erased cells"
        n = self._part(n) if fails else n
        self.bytes_written += n
        self.cells[address : address + n] &= np.frombuffer(ctypes.string_at(source, n), np.uint8)
        return -fails


class Store:
    """The C store on a flash."""

    def __init__(self, library: ctypes.CDLL, flash: Flash, identity: int = IDENTITY, image_bytes: int = IMAGE_BYTES):
        self.library, self.flash, self.struct, self.n = library, flash, StoreStruct(), image_bytes
        self.opened = library.kt_store_open(
            ctypes.byref(self.struct),
            ctypes.byref(flash.struct),
            ctypes.c_uint32(image_bytes),
            ctypes.c_uint32(identity),
        )

    def image(self) -> bytes:
        start = self.struct.bank + HEADER_BYTES
        return self.flash.cells[start : start + self.n].tobytes()

    def call(self, function: str, *arguments: object) -> int:
        return getattr(self.library, f"kt_store_{function}")(ctypes.byref(self.struct), *arguments)

    def commit(self, image: bytes, part: int = 100) -> int:
        """The image, appended in parts of any size."""
        code = self.call("begin")
        for start in range(0, len(image), part):
            piece = image[start : start + part]
            code = code or self.call("append", piece, ctypes.c_uint32(len(piece)))
        return code or self.call("commit")


def image(number: int, n: int = IMAGE_BYTES) -> bytes:
    return np.random.default_rng(number).integers(0, 256, n, np.uint8).tobytes()


@given(data=st.binary(max_size=200), cut=st.integers(0, 200))
@settings(deadline=None, max_examples=50)
def test_checksum_is_the_one_of_zlib(store_library, data, cut):
    store_library.kt_crc32.restype = ctypes.c_uint32
    first, second = data[:cut], data[cut:]
    crc = store_library.kt_crc32(ctypes.c_uint32(0), first, ctypes.c_uint32(len(first)))
    assert store_library.kt_crc32(ctypes.c_uint32(crc), second, ctypes.c_uint32(len(second))) == zlib.crc32(data)


def test_commits_alternate_between_two_banks(store_library):
    flash = Flash()
    store = Store(store_library, flash)
    assert store.opened == EMPTY
    for number, part in enumerate([100, 1, 32, 1000, 7]):
        assert store.commit(image(number), part) == 0
        assert store.image() == image(number)
        again = Store(store_library, flash)
        assert (again.opened, again.image()) == (COMMITTED, image(number))
    assert flash.erases.tolist() == [3] * 5 + [2] * 5


def test_what_is_kept_is_copied(store_library):
    store = Store(store_library, Flash())
    store.commit(image(0))
    new = image(1)
    codes = [
        store.call("begin"),
        store.call("keep", ctypes.c_uint32(333)),
        store.call("append", new[333:433], ctypes.c_uint32(100)),
        store.call("keep", ctypes.c_uint32(567)),
        store.call("commit"),
    ]
    assert codes == [0] * 5
    assert store.image() == image(0)[:333] + new[333:433] + image(0)[433:]


@pytest.mark.parametrize("done", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n_before", [0, 1, 2])
def test_power_may_fail_at_every_operation(store_library, n_before, done):
    """After each cut: the old image or the new one, never anything else, and the next commit works."""
    before = image(n_before - 1) if n_before else None
    for cut in count(1):
        flash = Flash()
        store = Store(store_library, flash)
        for number in range(n_before):
            assert store.commit(image(number)) == 0
        flash.cut, flash.done = flash.operations + cut, done
        failed = store.commit(image(9)) != 0
        in_memory = store.image() if store.struct.sequence else None
        flash.cut = None
        restarted = Store(store_library, flash)
        if restarted.opened == EMPTY:
            assert n_before == 0
        else:
            assert restarted.opened == COMMITTED
            assert restarted.image() in (before, image(9))
            assert failed or restarted.image() == image(9)
        assert in_memory == (before if failed else image(9))
        assert restarted.commit(image(10)) == 0
        assert Store(store_library, flash).image() == image(10)
        if not failed:
            break
    assert cut > IMAGE_BYTES // UNIT_BYTES, "every write was cut once"


def test_damage_is_found(store_library):
    """One bit: of the only commit, an error; of one of two, the other one is used."""
    for byte in (3, 30, UNIT_BYTES * 2, HEADER_BYTES + IMAGE_BYTES - 1):
        flash = Flash()
        store = Store(store_library, flash)
        store.commit(image(0))
        flash.cells[byte] ^= 4
        assert Store(store_library, flash).opened == CORRUPT
        store.commit(image(1))
        again = Store(store_library, flash)
        assert (again.opened, again.image()) == (OLDER, image(1))


def test_a_store_of_another_network_is_refused(store_library):
    flash = Flash()
    Store(store_library, flash).commit(image(0))
    assert Store(store_library, flash, identity=IDENTITY + 1).opened == FOREIGN
    assert Store(store_library, flash, image_bytes=IMAGE_BYTES - 4).opened == FOREIGN


def test_misuse_fails(store_library):
    """A medium too small, an image too long or too short, keeping what was never there: nothing is committed."""
    assert Store(store_library, Flash(n_pages=9)).opened == FAILED
    store = Store(store_library, Flash())
    assert store.commit(image(0) + b"x") == FAILED
    assert store.commit(image(0)[1:]) == FAILED
    assert store.call("begin") == 0
    assert store.call("keep", ctypes.c_uint32(4)) == FAILED
    assert Store(store_library, store.flash).opened == EMPTY


def test_a_worn_cell_is_noticed_before_the_seal(store_library):
    flash = Flash()
    store = Store(store_library, flash)
    store.commit(image(0))
    write: Callable[[int, int, int], int] = flash._write

    def worn(address: int, source: int, n: int) -> int:
        code = write(address, source, n)
        if address == 5 * PAGE_BYTES + 512:
            flash.cells[address + 7] = 0
        return code

    flash.struct.write = READ(worn)
    assert store.commit(image(1)) == FAILED
    assert Store(store_library, flash).image() == image(0)


@pytest.mark.parametrize("n", [4, 128, 192, 196, 1000])
def test_the_account_is_what_happens(store_library, n):
    """Pages, bytes and erases that the ledger prints, counted on the simulated flash."""
    account = StoreAccount(n, Medium("flash", PAGE_BYTES, 10, 10_000))
    flash = Flash(n_pages=account.n_pages)
    store = Store(store_library, flash, image_bytes=n)
    for number in range(6):
        assert store.commit(image(number, n)) == 0
    assert flash.bytes_written == 6 * account.bytes_per_commit
    assert flash.erases.tolist() == [6 * account.erases_per_page_and_commit] * account.n_pages
    assert Store(store_library, Flash(n_pages=account.n_pages - 1), image_bytes=n).opened == FAILED
