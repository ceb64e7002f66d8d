"""The answers of a run folder: JSON Lines, one row a (question, table row), synced before the next one starts.

Every process appends to a file of its own, `samples.<host>-<slot>.jsonl`, which it holds by a lock of its machine;
reading joins all `samples*.jsonl`. So no two processes, on one machine or many, ever write to the same file.
"""

import errno
import fcntl
import json
import os
import platform
import re
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

from sharpv.reports.store import read_samples

SCHEMA = 1
KEPT = ("key", "status", "error", "row", "seed", "raw", "prompt_tokens", "visual_kept", "output_tokens", "token_budget")
"""What of a row stays in memory: what scoring and resuming need."""
BLOCK = 1 << 20


class RowStore:
    """Rows by key, those of all processes as they were when the store was opened or read again.

    A torn last line (a kill in mid-write) is cut off by the next process that takes the file over; until then readers
    leave it out. Raises ValueError for a broken line anywhere else, naming file and line, and for a folder whose file
    system has no locks.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._file = _claim(folder)
        self.path = Path(self._file.name)
        self.read()

    def read(self) -> None:
        """Read the rows of all processes again."""
        self.rows: dict[str, dict[str, Any]] = {row["key"]: _slim(row) for row in read_samples(self.folder)}

    def append(self, row: dict[str, Any]) -> None:
        """Write a row and sync it to disk; the row's `key` must be new or that of an error row that is run again.

        ValueError for a number that JSON does not know.
        """
        try:
            line = json.dumps(row, allow_nan=False) + "\n"
        except ValueError as error:
            raise ValueError(f"the row of {row['key']} holds a number that JSON does not know: {error}") from error
        self._file.write(line.encode())
        self._file.flush()
        os.fsync(self._file.fileno())
        self.rows[row["key"]] = _slim(row)

    def finished(self, key: str) -> bool:
        """Whether the key has an answer; an error row is run again."""
        return key in self.rows and self.rows[key]["status"] == "ok"

    def close(self) -> None:
        self._file.close()


def _slim(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in KEPT if name in row}


def _claim(folder: Path) -> BinaryIO:
    """The first file of this host that no living process holds, repaired and open for appending."""
    host = re.sub(r"[^\w-]", "_", platform.node()) or "host"
    for slot in count():
        file = (folder / f"samples.{host}-{slot}.jsonl").open("ab+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        except OSError as error:
            file.close()
            if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise ValueError(
                    f"the file system of {folder} has no file locks ({error}): set SHARPV_RESULTS to a folder elsewhere"
                ) from error
            raise
        _repair(file)
        _sync_folder(folder)
        return file
    raise AssertionError("count() has no end")


def _repair(file: BinaryIO) -> None:
    """Cut off what stands behind the last line end."""
    size = whole = file.seek(0, os.SEEK_END)
    while whole:
        start = max(0, whole - BLOCK)
        file.seek(start)
        end = file.read(whole - start).rfind(b"\n")
        whole = start + end + 1 if end >= 0 else start
        if end >= 0:
            break
    if whole < size:
        file.truncate(whole)
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
