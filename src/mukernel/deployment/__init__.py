"""Deployment: an environment of its own for a plug-in, with its own dependencies and its own Python.

A **request** names what to install; the **installer** resolves it, writes what it found to the **lock file**, and puts
it into an **environment** of the **store**, which is there whole or not at all.
"""

from .environment import Environment
from .installer import Installer
from .request import Request, read_request
from .store import default_folder

__all__ = ["Environment", "Installer", "Request", "default_folder", "read_request"]
