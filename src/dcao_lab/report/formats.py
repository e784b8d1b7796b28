"""How the report spells numbers. Nothing else turns a number into text."""

from collections.abc import Callable

from dcao_lab.config import Setting
from dcao_lab.statistics import Interval
from dcao_lab.study.config import Variation
from dcao_lab.workloads import WorkloadInfo

AXIS_TITLES = {"lr": "initial learning rate", "batch_size": "batch size", "weight_decay": "initial weight decay",
               "momentum": "initial momentum", "init_scale": "scale of the initial weights",
               "label_noise": "share of training labels drawn anew"}  # fmt: skip
NO_LIMIT = 1e9
SETTINGS: dict[tuple[str, Setting], str] = {
    ("rule", "proposal"): "proposal's rule",
    ("rules", "none"): "no rules",
    ("every", 1): "every step",
    ("every", "epoch"): "every epoch",
    ("momentum", 0.0): "no momentum",
    ("decay", 0.0): "no decay",
    ("watched", 0.0): "loss not watched",
    ("target", NO_LIMIT): "no limit on s",
    ("max_relative_step", NO_LIMIT): "no limit on the relative step",
    ("first_relative_step", "given"): "from the given lr",
}
"""Settings whose names and values are no words."""
ANY = "any"  # of a setting without effect
DASH = "-"
PERCENT = "\N{NO-BREAK SPACE}%"


def metric_title(info: WorkloadInfo, split: str = "test") -> str:
    """What the axis of a workload's own metric says."""
    return f"{split} {info.metric.replace('_', ' ')}"


def axis_title(axis: str) -> str:
    """What a varied condition is called."""
    return AXIS_TITLES.get(axis, axis.replace("_", " "))


def axis_value(axis: str, value: float) -> str:
    """A value of a varied condition.

    Example:
        >>> axis_value("lr", 0.001), axis_value("batch_size", 32.0)
        ('1e-3', '32')
    """
    return learning_rate(value) if axis == "lr" else f"{value:g}"


def metric(info: WorkloadInfo, value: float | None) -> str:
    """A value of the workload's metric; a dash where there is none."""
    if value is None:
        return DASH
    return f"{100 * value:.1f}{PERCENT}" if info.metric == "accuracy" else significant(value)


def significant(value: float | None, digits: int = 3) -> str:
    """A number with its first digits, never in a form like ``1e+02``.

    Example:
        >>> significant(1234.5), significant(0.012345), significant(2.0)
        ('1230', '0.0123', '2.00')
    """
    if value is None:
        return DASH
    if value != 0.0 and not 1e-4 <= abs(value) < 1e6:
        return scientific(value, digits)
    rounded = float(f"{value:.{digits - 1}e}")
    if abs(rounded) >= 10.0**digits:
        return f"{rounded:.0f}"
    return f"{rounded:#.{digits}g}".rstrip(".")


def scientific(value: float, digits: int = 3) -> str:
    """A number as mantissa and exponent, without the zeros that Python pads with.

    Example:
        >>> scientific(1e-05, 1), scientific(123456789.0)
        ('1e-5', '1.23e8')
    """
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def learning_rate(lr: float | None) -> str:
    """A learning rate, for example ``1e-3`` or ``2.5e-2``."""
    if lr is None:
        return DASH
    mantissa, exponent = scientific(lr, 4).split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{exponent}"


def setting(name: str, value: Setting, spell: Callable[[float], str] = "{:g}".format) -> str:
    """A setting of an optimizer in words; a symbol of one letter keeps its sign of equality.

    Example:
        >>> setting("weight_decay", 5e-4), setting("measure", "hessian"), setting("decay", 0.0), setting("k", 10)
        ('weight decay 0.0005', 'measure: hessian', 'no decay', 'k=10')
    """
    if (name, value) in SETTINGS:
        return SETTINGS[name, value]
    spelled = spell(value) if isinstance(value, float) else str(value)
    equals = "=" if len(name) == 1 else ": " if isinstance(value, str) else " "
    return f"{name}{equals}{spelled}".replace("_", " ")


def difference(info: WorkloadInfo, value: float | None) -> str:
    """A difference between two values of the metric, with its sign; points are hundredths of an accuracy."""
    if value is None:
        return DASH
    if info.metric == "accuracy":
        return f"{100 * value:+.1f}"
    return f"{'+' if value >= 0 else ''}{significant(value)}"


def difference_unit(info: WorkloadInfo) -> str:
    """What a difference between two values of the metric is counted in."""
    return "points" if info.metric == "accuracy" else info.metric.replace("_", " ")


def interval(info: WorkloadInfo, value: Interval) -> str:
    """The interval of a difference, or why there is none."""
    if value.low is None or value.high is None:
        return value.status
    return f"{difference(info, value.low)} to {difference(info, value.high)}"


def variation(value: Variation | None) -> str:
    """Changed conditions in words, for example ``batch size 32``; empty for none."""
    return "" if value is None else f"{axis_title(value.axis)} {axis_value(value.axis, value.value)}"


def p_value(value: float | None) -> str:
    """A p-value, for example ``0.031`` or ``<0.001``."""
    if value is None:
        return DASH
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def percent_change(value: float | None) -> str:
    """A ratio as a change in percent, for example ``+12 %``."""
    return DASH if value is None else f"{100 * (value - 1):+.0f}{PERCENT}"


def signed_share(value: float) -> str:
    r"""A share in percent, with its sign.

    Example:
        >>> print(ascii(signed_share(0.0123)), ascii(signed_share(-0.0001)))
        '+1.2\xa0%' '0.0\xa0%'
    """
    spelled = f"{100 * value:+.1f}"
    return f"{spelled if float(spelled) else spelled[1:]}{PERCENT}"


def more(value: float) -> str:
    r"""A ratio as how much more or less it is.

    Example:
        >>> print(ascii(more(1.25)), ascii(more(0.5)))
        '25\xa0% more' '50\xa0% less'
    """
    return f"{abs(100 * (value - 1)):.0f}{PERCENT} {'more' if value >= 1 else 'less'}"


def ratio(value: float | None) -> str:
    """A factor, with two digits after the point."""
    return DASH if value is None else f"{value:.2f}"


def span(low: str, high: str) -> str:
    r"""Two spelled numbers as a range, a unit that they share said once.

    Example:
        >>> print(ascii(span("9.87", "9.89")))
        '9.87\u20139.89'
    """
    both = low.endswith(PERCENT) and high.endswith(PERCENT)
    return f"{low.removesuffix(PERCENT) if both else low}\N{EN DASH}{high}"


def count(value: float | None) -> str:
    """A whole number, its thousands apart."""
    return DASH if value is None else f"{value:,.0f}".replace(",", "\u202f")


def counted(number: int, noun: str) -> str:
    """A number of things.

    Example:
        >>> counted(1, "run"), counted(2, "run")
        ('1 run', '2 runs')
    """
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def joined(*words: str) -> str:
    """Words with commas between them, empty ones left out.

    Example:
        >>> joined("Digits MLP", "", "batch size 32")
        'Digits MLP, batch size 32'
    """
    return ", ".join(filter(None, words))


def listed(items: list[str]) -> str:
    """Words as a list that reads: ``a, b and c``.

    Example:
        >>> listed(["a", "b", "c"])
        'a, b and c'
    """
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
