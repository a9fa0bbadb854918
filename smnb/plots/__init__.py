"""Figures from tidy data: one call draws, saves (``save=``) and shows a static figure and its interactive twin.

Every function takes ``save=`` (the path of a PNG) and ``synthetic=`` (whether titles say so; by default what the attributes
of the data say), and returns a `Picture`, a matplotlib figure that a notebook cell shows as its last expression: the PNG for
paper and page, and below it, where it has one, the interactive twin of `twins`, which carries its JavaScript (nothing here
touches the network). Data without a column, a unit or anything to draw raise `ContractError`, an unknown metric, colour map
or option `ParameterError`.
"""

from smnb.plots.charts import density_scatter, histograms, series
from smnb.plots.display import Picture, enable, png_bytes
from smnb.plots.ground import coastlines, nice_limits, pretty_units, symmetric_limit
from smnb.plots.maps import image_panels, map_matrix, score_maps, sensor_map, static_maps
from smnb.plots.profile import calendar, count_bars, grouped_bars, month_bars, sensor_series, share_table
from smnb.plots.rows import ImageColumn, image_rows, interval_rows, method_scores
from smnb.plots.scores import prediction_series, score_boxes, sorted_scores

__all__ = [
    "ImageColumn",
    "Picture",
    "calendar",
    "coastlines",
    "count_bars",
    "density_scatter",
    "enable",
    "grouped_bars",
    "histograms",
    "image_panels",
    "image_rows",
    "interval_rows",
    "map_matrix",
    "method_scores",
    "month_bars",
    "nice_limits",
    "png_bytes",
    "prediction_series",
    "pretty_units",
    "score_boxes",
    "score_maps",
    "sensor_map",
    "sensor_series",
    "series",
    "share_table",
    "sorted_scores",
    "static_maps",
    "symmetric_limit",
]
