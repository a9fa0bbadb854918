"""Figures from tidy data: a static one for paper and page, and an interactive twin for the notebook.

Nothing here touches the network. Coastlines come from a Natural Earth file that cartopy has on disk already, or from
the Köppen map; interactive figures carry their own JavaScript (bokeh's core, once a page), so that they work in
JupyterLab and in an exported HTML page without the internet, and a page that runs no JavaScript shows the static twin.

- `coast`: `coastlines`; `fields`: checks, colour scales and coarsening that both kinds of map share;
- `maps`: `static_maps`, `image_panels`; `charts`: `density_scatter`, `series`, `histograms`;
- `matrix`: `map_matrix`, several regions below one another; `image_rows`: squares of samples or dates;
- `methods`: `method_scores`; `interval_rows`: values with their intervals;
- `profile`: `count_bars`, `month_bars`, `calendar`, `grouped_bars`, `share_table`, `sensor_series`; `places`: `sensor_map`,
  `image_samples`;
- `scores`: `sorted_scores`, `score_maps`, `prediction_series`, `score_boxes`;
- `interactive`: `interactive_maps`, `interactive_image_panels`, `interactive_density_scatter`, `interactive_series`;
- `display`: `enable`, `show_pair`, `save_png`, `save_html`.
"""

from smnb.plots.charts import density_scatter, histograms, series
from smnb.plots.coast import coastlines
from smnb.plots.display import enable, png_bytes, save_html, save_png, show_pair
from smnb.plots.fields import nice_limits, pretty_units, split_panels, symmetric_limit
from smnb.plots.image_rows import ImageColumn, image_rows, interactive_image_rows
from smnb.plots.interactive import (
    interactive_density_scatter,
    interactive_image_panels,
    interactive_maps,
    interactive_series,
)
from smnb.plots.interval_rows import interval_rows
from smnb.plots.maps import image_panels, static_maps
from smnb.plots.matrix import map_matrix
from smnb.plots.methods import method_scores
from smnb.plots.places import image_samples, sensor_map
from smnb.plots.profile import calendar, count_bars, grouped_bars, month_bars, sensor_series, share_table
from smnb.plots.scores import prediction_series, score_boxes, score_maps, sorted_scores

__all__ = [
    "ImageColumn",
    "calendar",
    "coastlines",
    "count_bars",
    "density_scatter",
    "enable",
    "grouped_bars",
    "histograms",
    "image_panels",
    "image_rows",
    "image_samples",
    "interactive_density_scatter",
    "interactive_image_panels",
    "interactive_image_rows",
    "interactive_maps",
    "interactive_series",
    "interval_rows",
    "map_matrix",
    "method_scores",
    "month_bars",
    "nice_limits",
    "png_bytes",
    "prediction_series",
    "pretty_units",
    "save_html",
    "save_png",
    "score_boxes",
    "score_maps",
    "sensor_map",
    "sensor_series",
    "series",
    "share_table",
    "show_pair",
    "sorted_scores",
    "split_panels",
    "static_maps",
    "symmetric_limit",
]
