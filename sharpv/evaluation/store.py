"""An append-only JSON Lines file: one row a (sample, table row), synced before the next sample starts."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCHEMA = 1


class RowStore:
    """Rows by key. A torn last line (a kill in mid-write) is cut off when the store is opened.

    Raises ValueError for a broken line anywhere else, naming file and line.
    """

    def __init__(self, path: Path):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._repair()
        self.rows: dict[str, dict[str, Any]] = {row["key"]: row for row in self._read()}
        self._file = path.open("ab")

    def _repair(self) -> None:
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with self.path.open("r+b") as file:
                file.truncate(whole)
                os.fsync(file.fileno())

    def _read(self) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        for number, line in enumerate(self.path.read_bytes().splitlines(), 1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"{self.path}, line {number} is broken: {error}; remove the line to run its sample again"
                ) from error

    def append(self, row: dict[str, Any]) -> None:
        """Write a row and sync it to disk; the row's `key` must be new or that of an error row that is run again."""
        line = json.dumps(row, allow_nan=False) + "\n"
        self._file.write(line.encode())
        self._file.flush()
        os.fsync(self._file.fileno())
        self.rows[row["key"]] = row

    def finished(self, key: str) -> bool:
        """Whether the key has an answer; an error row is run again."""
        return key in self.rows and self.rows[key]["status"] == "ok"

    def close(self) -> None:
        self._file.close()
