"""What the server imports and reads whose forks execute jobs, so that each begins at once."""

from importlib import import_module

for name in (
    "dask.array",
    "distributed",
    "h5netcdf",
    "nbformat",
    "pyarrow.dataset",
    "pyarrow.pandas_compat",
    "pyarrow.parquet",
    "rasterio.features",
    "rasterio.shutil",
    "rioxarray",
    "smnb.cli.app",
    "smnb.maps.checkpoint",
    "smnb.models.smen",
    "smnb.papers.batchu2023.released.conversion",
    "smnb.pretrained",
    "smnb.runs",
    "smnb.training",
    "smnb_sandbox",
    "test_cli_matchup",
    "test_cli_scores",
    "test_loaders_insitu",
    "test_training",
    "torch",
    "typer._adapters",
    "zarr",
):
    import_module(name)
import_module("smnb.grids.koppen").koppen_codes([0.0], [0.0])
