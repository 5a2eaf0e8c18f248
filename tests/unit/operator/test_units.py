"""Quantities."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot_operator.units import cpu_text, memory_text, quantity, same_quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500m", "0.5"),
        ("2", "2"),
        ("4Gi", str(4 * 2**30)),
        ("1.5k", "1500"),
        ("1e3", "1000"),
        (".5", "0.5"),
        ("3u", "0.000003"),
    ],
)
def test_a_quantity_is_its_value_in_base_units(text: str, value: str) -> None:
    assert quantity(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "1gi", "one", "1..2", "--1", "1GiB"])
def test_what_is_no_quantity_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="4Gi"):
        quantity(text)


@given(st.integers(0, 10**15))
def test_cpu_text_names_the_same_amount(milli: int) -> None:
    assert quantity(cpu_text(Decimal(milli) / 1000)) == Decimal(milli) / 1000


@given(st.integers(0, 2**60))
def test_memory_text_names_the_same_amount(size: int) -> None:
    assert quantity(memory_text(Decimal(size))) == size


@given(st.decimals(0, 10**6, places=6))
def test_cpu_text_never_asks_for_less(cores: Decimal) -> None:
    assert cores <= quantity(cpu_text(cores)) < cores + Decimal("0.001")


def test_the_same_amount_in_other_words_is_the_same() -> None:
    assert same_quantity("1024Mi", "1Gi")
    assert same_quantity("1000m", 1)
    assert not same_quantity("1G", "1Gi")
    assert not same_quantity("x", "x")
