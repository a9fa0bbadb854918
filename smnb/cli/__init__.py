"""The command ``smnb``: arguments and calls."""

from smnb.cli.app import main

__all__ = ["main"]
