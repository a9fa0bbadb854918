"""The metrics by name, in one place; an own function stands wherever a name does.

A metric is a line of metrics.yaml, its function, and what makes its table and interval fast.
`metric` turns a name, a function or a `Metric` into a `Metric`; whatever takes metrics calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import yaml

from smnb.contract import ParameterError, check_choice
from smnb.metrics import scores


@dataclass(frozen=True)
class Smooth:
    """A score as a smooth function of means, on a scale on which it is nearly symmetric: what its interval is made on."""

    features: str  # which means: those of d = x - y, "difference" (d, d²), or "pair" (x, y, x², y², xy)
    function: Callable[[_Means], _WithGradient]  # value and gradient from the means
    back: Callable[[np.ndarray], np.ndarray]  # from that scale to the score's own
    flips: bool = False  # whether this decreases
    centred: bool = False  # whether the means' difference does not matter, so that each side is centred on its own


@dataclass(frozen=True)
class Metric:
    """A score of predictions against observations, and what tables, intervals and figures must know of it.

    Parameters
    ----------
    name, label, short : str
        Its column in tables, what an axis or a sentence calls it, and its name in files and on the command line; default the
        name.
    function : callable
        ``function(pred, obs)`` of two arrays of one length, without gaps, to one number. One that takes ``dim`` as the
        library's own do (see `smnb.metrics.scores`) is called for many series at once, which makes intervals faster.
    units : str
        "m3 m-3", or "1" for a number without units.
    better : {"low", "high", "zero"}, optional
        Which way is better; "zero" compares sizes. None: a comparison says which is larger and names no winner.
    limits : (float, float)
        What it can be at all: ends of intervals are cut there.
    of : {"values", "ranks", "anomalies"}
        What of each sensor's series a table gives it.
    varies : tuple of {"pred", "obs", "difference"}
        What must not be constant for the score (``difference``: for its interval) to be defined.
    from_moments : callable, optional
        The score from the moments of pairs (`smnb.metrics.scores.Moments`): all sensors of a table at once.
    smooth : Smooth, optional
        The score as a smooth function of means: a studentised interval, all sensors at once. Without it the interval is
        made of the function's own values in blocks drawn again.

    Examples
    --------
    >>> def mae(pred, obs):
    ...     return np.abs(pred - obs).mean()
    >>> Metric("mae", mae, units="m3 m-3", better="low")(np.array([0.1, 0.3]), np.array([0.2, 0.3]))
    np.float64(0.05)
    """

    name: str
    function: Callable[..., Any]
    units: str = "1"
    better: str | None = None
    label: str = ""
    short: str = ""
    limits: tuple[float, float] = (-np.inf, np.inf)
    of: str = "values"
    varies: tuple[str, ...] = ()
    from_moments: Callable[[Any], np.ndarray] | None = None
    smooth: Smooth | None = None

    def __post_init__(self) -> None:
        """Check what a user may get wrong, and give label and short name their default."""
        if not self.name.isidentifier():
            raise ParameterError("Metric", "the name is no word", got=self.name, expected="e.g. 'mae'")
        if not callable(self.function):
            raise ParameterError("Metric", f"the function of {self.name!r} cannot be called", got=self.function)
        check_choice("Metric", "better", self.better, ("low", "high", "zero", None))
        object.__setattr__(self, "label", self.label or self.name)
        object.__setattr__(self, "short", self.short or self.name)

    def __call__(self, pred: Any, obs: Any, **options: Any) -> Any:
        """Call the function."""
        return self.function(pred, obs, **options)

    @property
    def title(self) -> str:
        """The label as a title begins."""
        return self.label[0].upper() + self.label[1:] if self.label.split()[0].islower() else self.label


MetricLike: TypeAlias = str | Callable[..., Any] | Metric  # a name, a plain function ``f(pred, obs)``, or a Metric


#: Means of a score's features, and a score on the scale of its interval with its derivatives by them.
_Means: TypeAlias = Sequence[np.ndarray]
_WithGradient: TypeAlias = tuple[np.ndarray, Sequence[np.ndarray]]


def _bias(m: _Means) -> _WithGradient:
    return m[0], (np.ones_like(m[0]), np.zeros_like(m[0]))


def _log_rmse(m: _Means) -> _WithGradient:
    return 0.5 * np.log(m[1]), (np.zeros_like(m[0]), 0.5 / m[1])


def _log_ubrmse(m: _Means) -> _WithGradient:
    variance = m[1] - m[0] ** 2
    return 0.5 * np.log(variance), (-m[0] / variance, 0.5 / variance)


def _z_of_r(m: _Means) -> _WithGradient:
    x, y = m[0], m[1]
    vx, vy, cov = m[2] - x * x, m[3] - y * y, m[4] - x * y
    scale = np.sqrt(vx * vy)
    r = np.clip(cov / scale, -1 + 1e-15, 1 - 1e-15)
    dz = 1.0 / (1.0 - r * r)
    d_cov, d_vx, d_vy = dz / scale, -0.5 * dz * r / vx, -0.5 * dz * r / vy
    return np.arctanh(r), (-y * d_cov - 2 * x * d_vx, -x * d_cov - 2 * y * d_vy, d_vx, d_vy, d_cov)


def _slope(m: _Means) -> _WithGradient:
    x, y = m[0], m[1]
    vy, cov = m[3] - y * y, m[4] - x * y
    b = cov / vy
    return b, (-y / vy, (-x + 2 * y * b) / vy, np.zeros_like(x), -b / vy, 1.0 / vy)


def _log_unexplained(m: _Means) -> _WithGradient:
    y = m[1]
    vy, sse = m[3] - y * y, m[2] + m[3] - 2.0 * m[4]
    zero = np.zeros_like(y)
    return np.log(sse / vy), (zero, 2 * y / vy, 1.0 / sse, 1.0 / sse - 1.0 / vy, -2.0 / sse)


#: By the score's name.
SMOOTH: dict[str, Smooth] = {
    "bias": Smooth("difference", _bias, np.asarray),
    "rmse": Smooth("difference", _log_rmse, np.exp),
    "ubrmse": Smooth("difference", _log_ubrmse, np.exp, centred=True),
    "pearson_r": Smooth("pair", _z_of_r, np.tanh, centred=True),
    "anomaly_r": Smooth("pair", _z_of_r, np.tanh, centred=True),
    "r2": Smooth("pair", _log_unexplained, lambda v: 1.0 - np.exp(v), flips=True),
    "slope": Smooth("pair", _slope, np.asarray, centred=True),
}


def _metric(name: str, limits: Iterable[float] = (-np.inf, np.inf), varies: Iterable[str] = (), **facts: Any) -> Metric:
    function = getattr(scores, name)
    # ranks and anomalies are correlated as values are
    moments = getattr(scores.pearson_r if "of" in facts else function, "from_moments", None)
    facts |= {"limits": tuple(limits), "varies": tuple(varies), "from_moments": moments, "smooth": SMOOTH.get(name)}
    return Metric(name, function, **facts)


_TABLE = yaml.safe_load(Path(__file__).with_name("metrics.yaml").read_text(encoding="utf-8"))
#: All metrics by name.
METRICS: dict[str, Metric] = {name: _metric(name, **facts) for name, facts in _TABLE.items()}
DEFAULT_METRICS = ("bias", "rmse", "ubrmse", "pearson_r", "spearman_r", "r2", "anomaly_r", "slope")


def metric(wanted: MetricLike) -> Metric:
    """Return the metric of a name (long or short), a function or a `Metric`.

    A function that is not the library's becomes a metric of its own name without a better way; give a `Metric` to say more.

    `ParameterError` for a name that is not registered (the known ones are listed), a function without a name of its own, or
    one that has the name of a registered metric.
    """
    if isinstance(wanted, Metric):
        return wanted
    if isinstance(wanted, str):
        by_short = {one.short: one for one in METRICS.values()}
        if wanted not in METRICS and wanted not in by_short:
            step = "Pass a function, or register it"
            raise ParameterError("metric", "unknown metric", got=wanted, expected=tuple(METRICS), next_step=step)
        return METRICS.get(wanted) or by_short[wanted]
    name = getattr(wanted, "__name__", "")
    if name in METRICS and METRICS[name].function is wanted:
        return METRICS[name]
    if name in METRICS or not name.isidentifier():
        step = "Give it one: Metric('my_score', function, units='1', better='low')"
        raise ParameterError("metric", "the function has no name of its own", got=name or wanted, next_step=step)
    return Metric(name, wanted)


def metric_list(wanted: MetricLike | Iterable[MetricLike]) -> tuple[Metric, ...]:
    """Return the metrics of one or several names, functions or Metrics, each once; `ParameterError` for none."""
    several = [wanted] if isinstance(wanted, str | Metric) or callable(wanted) else list(wanted)
    found = {one.name: one for one in map(metric, several)}
    if not found:
        raise ParameterError("metric_list", "no metric is named", expected=tuple(METRICS))
    return tuple(found.values())


def register(own: Metric) -> Metric:
    """Add a metric, so that its name stands for it from now on; `ParameterError` if another has its name or short name."""
    taken = {name: one for one in METRICS.values() for name in (one.name, one.short)}
    if any(taken.get(name, own).function is not own.function for name in (own.name, own.short)):
        raise ParameterError("register", "another metric has this name", got=own.name, expected="a name of its own")
    METRICS[own.name] = own
    return own


def interval_text(value: float | None, low: float = np.nan, high: float = np.nan, form: str = ".3f") -> str:
    """Write a value with its interval; without the ends where there are none, and nothing for a missing value.

    Examples
    --------
    >>> interval_text(0.0553, 0.0481, 0.0612)
    '0.055 [0.048, 0.061]'
    >>> interval_text(-0.01, form="+.2f")
    '-0.01'
    """
    if pd.isna(value):
        return ""
    return f"{value:{form}}" + ("" if pd.isna(low) or pd.isna(high) else f" [{low:{form}}, {high:{form}}]")
