"""Block: a disk image or a device behind an interface."""

from .driver import BlockDriver
from .interface import Block, BlockInfo, BlockStatistics

__all__ = ["Block", "BlockDriver", "BlockInfo", "BlockStatistics"]
