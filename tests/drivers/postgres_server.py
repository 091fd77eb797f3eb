"""A PostgreSQL server in a temporary folder, on a Unix socket; started as another user, since it refuses root."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from types import TracebackType

import psycopg

INITDB = shutil.which("initdb")
POSTGRES = shutil.which("postgres")
QUICK = ["-c", "listen_addresses=", "-c", "max_connections=60", "-c", "fsync=off"]


class PostgresServer:
    """A context manager."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="mukernel-pg-")
        self.user: str | None = None
        self.numbers = itertools.count(1)
        if os.getuid() == 0:
            self.user = "postgres" if any(each.pw_name == "postgres" for each in pwd.getpwall()) else "nobody"
            shutil.chown(self.folder, self.user)

    def run(self, *command: str) -> None:
        done = subprocess.run(command, user=self.user, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"

    def __enter__(self) -> PostgresServer:
        assert INITDB is not None
        self.run(INITDB, "-D", f"{self.folder}/data", "-U", "tester", "-A", "trust", "-N", "-E", "UTF8")
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def start(self) -> None:
        """A child of ours, so that it is we who see it end."""
        assert POSTGRES is not None
        command = [POSTGRES, "-D", f"{self.folder}/data", "-k", self.folder, *QUICK]
        environment = {**os.environ, "LC_ALL": "C"}
        self.server = subprocess.Popen(
            command, user=self.user, cwd=self.folder, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self.server.stderr is not None
        said = []
        for line in self.server.stderr:
            said.append(line)
            if "ready to accept connections" in line:
                break
        else:
            raise AssertionError("".join(said))
        self.reader = threading.Thread(target=self.server.stderr.read, daemon=True)
        self.reader.start()

    def stop(self) -> None:
        assert self.server.stderr is not None
        self.server.send_signal(signal.SIGQUIT)  # at once, without a farewell to clients
        self.server.wait()
        self.reader.join()
        self.server.stderr.close()

    def new_database(self) -> str:
        """The URL of an empty schema: a database of its own is a thousand files to make and to remove."""
        name = f"test{next(self.numbers)}"
        with psycopg.connect(f"host={self.folder} user=tester dbname=postgres", autocommit=True) as connection:
            connection.execute(f"create schema {name}")  # type: ignore[call-overload]
        return f"postgresql://tester@/postgres?host={self.folder}&options=-csearch_path%3D{name}"
