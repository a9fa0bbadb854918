"""The metrics by name, in one place; an own function stands wherever a name does.

A metric is one line of `METRICS`: its function, units, which way is better, and what makes its table and interval fast.
`metric` turns a name, a function or a `Metric` into a `Metric`; whatever takes metrics calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from smnb.contract import ParameterError, check_choice
from smnb.metrics import scores
from smnb.metrics.smooth_scores import SMOOTH, Smooth


@dataclass(frozen=True)
class Metric:
    """A score of predictions against observations, and what tables, intervals and figures must know of it.

    Parameters
    ----------
    name : str
        Its column in tables.
    function : callable
        ``function(pred, obs)`` of two arrays of one length, without gaps, to one number. One that takes ``dim`` as the
        library's own do (see `smnb.metrics.scores`) is called for many series at once, which makes intervals faster.
    units : str
        "m3 m-3", or "1" for a number without units.
    better : {"low", "high", "zero"}, optional
        Which way is better; "zero" compares sizes. None: a comparison says which is larger and names no winner.
    label : str
        What an axis or a sentence calls it; default the name.
    short : str
        Its name in files and on the command line; default the name.
    limits : (float, float)
        What it can be at all: ends of intervals are cut there.
    of : {"values", "ranks", "anomalies"}
        What of each sensor's series a table gives it.
    varies : tuple of {"pred", "obs", "difference"}
        What must not be constant for the score (``difference``: for its interval) to be defined.
    from_moments : callable, optional
        The score from the moments of pairs (`smnb.metrics.scores.FROM_MOMENTS`): all sensors of a table at once.
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


#: A name, a plain function ``f(pred, obs)``, or a Metric.
MetricLike: TypeAlias = str | Callable[..., Any] | Metric


def _metric(name: str, units: str, better: str | None, label: str, **more: Any) -> Metric:
    more = {"from_moments": scores.FROM_MOMENTS.get(name), "smooth": SMOOTH.get(name)} | more
    return Metric(name, getattr(scores, name), units, better, label, **more)


_R = {"from_moments": scores.pearson_from, "limits": (-1.0, 1.0), "varies": ("pred", "obs")}
_ERROR = {"limits": (0.0, np.inf), "varies": ("difference",)}
#: All metrics by name.
METRICS: dict[str, Metric] = {
    one.name: one
    for one in (
        _metric("bias", "m3 m-3", "zero", "bias", varies=("difference",)),
        _metric("rmse", "m3 m-3", "low", "RMSE", **_ERROR),
        _metric("ubrmse", "m3 m-3", "low", "ubRMSE", **_ERROR),
        _metric("pearson_r", "1", "high", "R", short="r", **_R),
        _metric("spearman_r", "1", "high", "Spearman's R", short="spearman", of="ranks", **_R),
        _metric("r2", "1", "high", "R²", limits=(-np.inf, 1.0), varies=("obs", "difference")),
        _metric("r2_pearson", "1", "high", "squared R", limits=(0.0, 1.0), varies=("pred", "obs")),
        _metric("anomaly_r", "1", "high", "anomaly R", of="anomalies", **_R),
        _metric("slope", "1", None, "slope", varies=("obs",)),
        _metric("nrmse", "1", "low", "nRMSE", **_ERROR),
        _metric("n_obs", "1", None, "pairs", limits=(0.0, np.inf)),
    )
}
DEFAULT_METRICS = ("bias", "rmse", "ubrmse", "pearson_r", "spearman_r", "r2", "anomaly_r", "slope")


def metric(wanted: MetricLike) -> Metric:
    """Return the metric of a name (long or short), a function or a `Metric`.

    A function that is not the library's becomes a metric of its own name without a better way; give a `Metric` to say more.

    Raises
    ------
    ParameterError
        For a name that is not registered (the known ones are listed), a function without a name of its own, or one that
        has the name of a registered metric.
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
    """Add a metric, so that its name stands for it from now on in this process.

    Raises
    ------
    ParameterError
        If another metric has its name or short name.
    """
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
