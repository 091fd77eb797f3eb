"""Files: folders, object stores and archives behind one interface, and `mukernel://` for libraries that know fsspec."""

from .connection import connect_files, disconnect_files
from .interface import Change, FileInfo, FileLock, Files
from .mounts import Mount
from .server import FileServer

__all__ = ["Change", "FileInfo", "FileLock", "FileServer", "Files", "Mount", "connect_files", "disconnect_files"]
