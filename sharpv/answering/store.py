"""The answers of a run folder: JSON Lines, one row a (question, table row), synced before the next one starts.

Every process appends to a file of its own, `samples.<host>-<slot>.jsonl`, which it holds by a lock of its machine;
reading joins all `samples*.jsonl`. So no two processes, on one machine or many, ever write to the same file. Which of
them works on a video is said by a lock on one byte of the file `claims`, which ends with the process that holds it.
"""

import fcntl
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import FileIO
from itertools import count
from pathlib import Path
from typing import Any

from sharpv.answering.columns import SHARES, columns, lack
from sharpv.files import cut_torn_line, parsed, told, write_synced

SCHEMA = 1
KEPT = ("key", "status", "error", "row", "seed", "raw", "prompt_tokens", "visual_kept", "output_tokens", "token_budget")
"""What of a row stays in memory: what scoring and resuming need."""


class RowStore:
    """Rows by key, those of all processes as they were when the store was opened or read again.

    The folder is made, and a file of this process in it, with the first row. A torn last line (a kill in mid-write) is
    cut off by the next process that takes the file over; until then readers leave it out. ValueError for a broken line
    anywhere else, naming file and line, for what the disk refuses, and where the file system has no locks.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._file: FileIO | None = None
        self._claims: FileIO | None = None
        self.read()

    @property
    def path(self) -> Path:
        """The file of this process, from here on its own."""
        return Path(self._own().name)

    def read(self) -> None:
        """Read the rows of all processes again."""
        self.rows: dict[str, dict[str, Any]] = {}
        self._seen: dict[Path, tuple[int, int]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read what processes have written since."""
        for path in sorted(self.folder.glob("samples*.jsonl")):
            start, number = self._seen.get(path, (0, 0))
            if path.stat().st_size <= start:
                continue
            if not start and (known := columns(path, problem, KEPT)):
                start, number = known.end, known.table.num_rows
                for batch in known.table.to_batches(max_chunksize=1000):
                    for row in batch.to_pylist():
                        self._take({name: value for name, value in row.items() if value is not None or name == "error"})
            with path.open("rb") as file:
                file.seek(start)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    start, number = start + len(line), number + 1
                    self._take(_slim(parsed(path, number, line, problem)))
            self._seen[path] = start, number

    def _take(self, row: dict[str, Any]) -> None:
        if row["status"] == "ok" or not self.finished(row["key"]):
            self.rows[row["key"]] = row

    def append(self, row: dict[str, Any]) -> None:
        """Write a row and sync it to disk; the row's `key` must be new or that of an error row that is run again.

        ValueError for a number that JSON does not know, and where the disk refuses.
        """
        try:
            line = json.dumps(row, allow_nan=False) + "\n"
        except ValueError as error:
            raise ValueError(f"the row of {row['key']} holds a number that JSON does not know: {error}") from error
        file = self._own()
        with told(self.path):
            write_synced(file, line.encode())
        start, number = self._seen.get(self.path, (0, 0))
        self._seen[self.path] = start + len(line), number + 1
        self.rows[row["key"]] = _slim(row)

    def finished(self, key: str) -> bool:
        """Whether the key has an answer; an error row is run again."""
        return key in self.rows and self.rows[key]["status"] == "ok"

    def claim(self, video: Path, wait: bool) -> bool:
        """Take a video's questions, unless another process has them: then False, or wait until it has let them go.

        What others have written until then is read.
        """
        if self._claims is None:
            with told(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                self._claims = (self.folder / "claims").open("ab", buffering=0)
        try:
            with told(self.folder / "claims"):
                fcntl.lockf(self._claims, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, _byte(video))
        except ValueError as error:
            if isinstance(error.__cause__, BlockingIOError | PermissionError):
                return False
            raise
        self.refresh()
        return True

    def release(self, video: Path) -> None:
        """Let a claimed video go."""
        assert self._claims is not None
        fcntl.lockf(self._claims, fcntl.LOCK_UN, 1, _byte(video))

    def close(self) -> None:
        for file in (self._file, self._claims):
            if file is not None:
                file.close()
        self._file = self._claims = None

    def _own(self) -> FileIO:
        if self._file is None:
            with told(self.folder):
                self._file = _free_file(self.folder)
            # Whoever held the file before may have written to it since it was read.
            self.refresh()
        return self._file


def have_columns(folders: Iterable[Path]) -> None:
    """Have what folders lack of columns made by a process a file, as many at once as there are cores.

    Whatever goes wrong there, their reader will find too, and say so. A process is this module as a command, since
    multiprocessing would run a caller's own script again.
    """
    files = [path for folder in folders for path in folder.glob("samples*.jsonl") if lack(path)]
    if len(files) > 1:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            commands = [[sys.executable, "-m", __name__, str(path)] for path in sorted(files, key=_size, reverse=True)]
            list(pool.map(partial(subprocess.run, capture_output=True, check=False), commands))


def problem(row: dict[str, Any]) -> str:
    """What is wrong with a stored answer, as far as it goes: most fields that it lacks are for its reader to miss."""
    if absent := [name for name in ("key", "status") if name not in row]:
        return f"lacks {absent}"
    if row.get("schema", SCHEMA) != SCHEMA:
        return f"has schema {row['schema']}, this package reads {SCHEMA}"
    for name in SHARES:
        value = row.get(name)
        if value is not None and not (isinstance(value, int | float) and -1e-9 <= value <= 1 + 1e-9):
            return f"{name}={value!r} is no share"
    return ""


def _size(path: Path) -> int:
    return path.stat().st_size


def _slim(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in KEPT if name in row}


def _byte(video: Path) -> int:
    return int(hashlib.sha256(str(video).encode()).hexdigest()[:15], 16)


def _free_file(folder: Path) -> FileIO:
    """The first file of this host that no living process holds, repaired and open for appending."""
    folder.mkdir(parents=True, exist_ok=True)
    host = re.sub(r"[^\w-]", "_", platform.node()) or "host"
    for slot in count():
        file = (folder / f"samples.{host}-{slot}.jsonl").open("ab+", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        except OSError:
            file.close()
            raise
        cut_torn_line(file)
        _sync_folder(folder)
        return file
    raise AssertionError("count() has no end")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    columns(Path(sys.argv[1]), problem, ())
