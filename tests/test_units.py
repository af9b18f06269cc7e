"""Bytes as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilotune.errors import BudgetError
from kilotune.units import DTYPE_BYTES, format_bytes, kib, parse_bytes


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("256KiB", 262_144), ("256 KiB", 262_144), ("100kB", 100_000), ("1.5MiB", 1_572_864), ("2MB", 2_000_000),
        ("1GiB", 2**30), ("512", 512), ("512B", 512), (512, 512), (" 64kib ", 65_536), ("0", 0),
    ],
)  # fmt: skip
def test_parse_bytes(text, nbytes):
    assert parse_bytes(text) == nbytes


@pytest.mark.parametrize("text", ["", "KiB", "-5", "-5KiB", "256 KiBs", "1e3", "nan", "1,000", "1.KiB", 1.0e30, None])
def test_what_is_no_amount_is_named(text):
    with pytest.raises(BudgetError, match=r"cannot read .* as an amount of memory; write for instance 256KiB"):
        parse_bytes(text)


@given(st.integers(0, 2**40))
def test_format_is_exact(nbytes):
    exact, rounded = format_bytes(nbytes).rstrip(")").split(" B (")
    assert int(exact.replace(",", "")) == nbytes
    assert float(rounded.removesuffix(" KiB").replace(",", "")) == pytest.approx(nbytes / 1024, abs=0.051)


@given(st.integers(0, 2**40))
def test_kib_and_parse_are_inverse(nbytes):
    assert kib(parse_bytes(f"{nbytes}KiB")) == nbytes


def test_element_sizes():
    assert {name: DTYPE_BYTES[name] for name in ("float32", "float16", "int8", "int64")} == {
        "float32": 4, "float16": 2, "int8": 1, "int64": 8,
    }  # fmt: skip
