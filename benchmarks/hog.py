"""A process that burns one core until it is killed: `python -m benchmarks.hog`."""

from __future__ import annotations

from benchmarks.peers import server_process


def burn(address: str) -> None:
    """Never returns."""
    server_process.ready()
    while True:
        pass


if __name__ == "__main__":
    server_process.main(burn)
