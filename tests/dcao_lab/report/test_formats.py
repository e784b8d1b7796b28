import pytest

from dcao_lab.report import formats
from dcao_lab.workloads import WORKLOADS


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00"),
        (0.001234, "0.00123"),
        (0.5, "0.500"),
        (2.0, "2.00"),
        (9.999, "10.0"),
        (12.34, "12.3"),
        (1234.5, "1230"),
        (-3.14159, "-3.14"),
        (1e-7, "1.00e-7"),
        (2.5e9, "2.50e9"),
        (None, "-"),
    ],
    ids=str,
)
def test_numbers_keep_three_digits(value, text):
    assert formats.significant(value) == text


@pytest.mark.parametrize(
    ("lr", "text"), [(1e-5, "1e-5"), (0.1, "1e-1"), (3e-2, "3e-2"), (2.5e-3, "2.5e-3"), (1.0, "1e0")]
)
def test_learning_rates_are_powers_of_ten(lr, text):
    assert formats.learning_rate(lr) == text


def test_accuracy_is_a_percentage_and_perplexity_is_not():
    assert formats.metric(WORKLOADS["digits_mlp"].info, 0.9722) == "97.2\xa0%"
    assert formats.metric(WORKLOADS["pydoc_gpt"].info, 9.876) == "9.88"
    assert formats.metric(WORKLOADS["pydoc_gpt"].info, None) == "-"


def test_ranges_say_their_unit_once():
    assert formats.span("96.9\xa0%", "97.5\xa0%") == "96.9\N{EN DASH}97.5\xa0%"
    assert formats.span("9.87", "9.89") == "9.87\N{EN DASH}9.89"
