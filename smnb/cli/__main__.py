"""``python -m smnb.cli``."""

from smnb.cli import main

main()
