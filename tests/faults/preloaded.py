"""What the server imports whose forks execute jobs, so that each begins at once."""

from importlib import import_module

for name in (
    "dask.array",
    "h5netcdf",
    "nbformat",
    "pyarrow.parquet",
    "rasterio",
    "smnb.cli.app",
    "smnb.maps",
    "smnb.papers.batchu2023.released.conversion",
    "smnb.pretrained",
    "smnb.runs",
    "smnb.training",
    "smnb_sandbox",
    "test_cli_matchup",
    "test_loaders_insitu",
    "test_training",
    "torch",
    "zarr",
):
    import_module(name)
