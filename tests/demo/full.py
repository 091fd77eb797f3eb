"""Runs the demo over a folder, with an index for which there is no room, as on a full disk."""

from __future__ import annotations

import sqlite3
import sys

from mukernel.demo import index, scene
from mukernel.demo.stage import Setting

opened = index.opened


def opened_full(database: str) -> sqlite3.Connection:
    connection = opened(database)
    connection.execute("PRAGMA max_page_count = 20")
    return connection


if __name__ == "__main__":
    index.opened = opened_full
    sys.exit(scene.run(Setting(folder=sys.argv[1], seconds=2.0), json=True))
