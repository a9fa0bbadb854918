"""A seeded, physically consistent synthetic world, written in the formats of the real products."""

from smnb_sandbox.archive import GENERATOR_VERSION, MARKER, PRESETS, read_manifest, write_sandbox
from smnb_sandbox.world import World

__all__ = ["GENERATOR_VERSION", "MARKER", "PRESETS", "World", "read_manifest", "write_sandbox"]
