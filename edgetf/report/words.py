"""Numbers as people read them. What was not measured is a dash, never 0."""

from __future__ import annotations

from edgetf.core.metrics import Metric


def mebibytes(size_bytes: float | None) -> str:
    """Bytes in MiB, of what is tiny in KiB.

    >>> mebibytes(23_100_000), mebibytes(51_200), mebibytes(None)
    ('22.0 MiB', '50 KiB', '–')
    """
    if size_bytes is None:
        return "–"
    return f"{size_bytes / (1 << 20):.1f} MiB" if size_bytes >= 0.1 * (1 << 20) else f"{size_bytes / (1 << 10):.0f} KiB"


def millions(value: float | None) -> str:
    """A count of parameters or operations in millions, with three significant digits or so.

    >>> millions(14_734_085), millions(1_512_000_000), millions(51_234), millions(None)
    ('14.7 M', '1512 M', '0.051 M', '–')
    """
    if value is None:
        return "–"
    digits = 0 if value >= 1e8 else 1 if value >= 1e7 else 2 if value >= 1e6 else 3
    return f"{value / 1e6:.{digits}f} M"


def times(value: float | None) -> str:
    """A speed-up.

    >>> times(4.5), times(None)
    ('4.50 ×', '–')
    """
    return "–" if value is None else f"{value:.2f} ×"


def times_less(value: float | None, whole: float | None) -> str:
    """How a cost compares with that of the teacher, to stand behind it.

    >>> times_less(25, 100), times_less(150, 100), times_less(100, 100), times_less(None, 100)
    (' (1/4.0)', ' (1.5 ×)', '', '')
    """
    if not value or not whole or value == whole:
        return ""
    return f" (1/{whole / value:.1f})" if value < whole else f" ({value / whole:.1f} ×)"


def milliseconds(value: float | None) -> str:
    """Three significant digits or so.

    >>> milliseconds(31.456), milliseconds(0.8123), milliseconds(None)
    ('31.5 ms', '0.81 ms', '–')
    """
    if value is None:
        return "–"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 10 else f"{value:.2f} ms"


def per_second(value: float | None) -> str:
    """Tokens a second, with three significant digits or so.

    >>> per_second(1234.5), per_second(31.456), per_second(3.217), per_second(None)
    ('1234', '31.5', '3.22', '–')
    """
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def fraction(metric: Metric | None) -> str:
    """A metric's value with four digits.

    >>> fraction(Metric("accuracy", 0.95)), fraction(None)
    ('0.9500', '–')
    """
    return "–" if metric is None or metric.value is None else f"{metric.value:.4f}"


def signed(metric: Metric | None) -> str:
    """A metric that may be either side of 0.

    >>> signed(Metric("accuracy_drop", 0.0123)), signed(None)
    ('+0.0123', '–')
    """
    return "–" if metric is None or metric.value is None else f"{metric.value:+.4f}"


def with_interval(metric: Metric | None) -> str:
    """``0.958 ± 0.016``: half the width of the interval.

    >>> with_interval(Metric("accuracy", 0.95, n=100, ci95=(0.9, 0.98)))
    '0.950 ± 0.040'
    """
    if metric is None or metric.value is None:
        return "–"
    if metric.ci95 is None:
        return f"{metric.value:.3f}"
    return f"{metric.value:.3f} ± {(metric.ci95[1] - metric.ci95[0]) / 2:.3f}"


def seconds(value: float | None) -> str:
    """A duration.

    >>> seconds(4.2), seconds(130), seconds(7300)
    ('4.2 s', '2 min 10 s', '2 h 1 min')
    >>> seconds(59.96), seconds(359.7), seconds(3599.6)
    ('1 min 0 s', '6 min 0 s', '1 h 0 min')
    """
    if value is None:
        return "–"
    if round(value, 1) < 60:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
