"""Files that several processes share: written whole or not at all, appended to and read by lines, held alone."""

import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import orjson

BLOCK = 1 << 20
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """What the system refuses here (a full disk, a folder without permission) as ValueError with file and way out."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_LOCKS:
            way = f"the file system of {path} has no file locks: set SHARPV_RESULTS to a folder elsewhere"
        else:
            reason = error.strerror or error
            way = f"cannot write {path}: {reason}; mend that or set SHARPV_RESULTS to a folder elsewhere"
        raise ValueError(f"{way}. What is answered is stored: the same command goes on there") from error


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, whole or not at all, whoever else writes it; its folder is made where it lacks.

    ValueError where that is refused; nothing half-written stays behind.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(content.encode() if isinstance(content, str) else content)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def append_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Append JSON lines, those of one call together, and sync them to disk; ValueError where that is refused."""
    lines = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
    with told(path), path.open("ab+", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        cut_torn_line(file)
        write_synced(file, lines.encode())


def write_synced(file: FileIO, content: bytes) -> None:
    """Append to an unbuffered file and sync it to disk; where the disk refuses, nothing of it stays."""
    end, rest = file.seek(0, os.SEEK_END), memoryview(content)
    try:
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())
    except OSError:
        file.truncate(end)
        raise


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a lock file, waiting for whoever holds it; a process that dies lets it go."""
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    with file:
        with told(path):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cut_torn_line(file: FileIO) -> None:
    """Cut off what stands behind the last line end, left by a kill in mid-write."""
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


def read_jsonl(path: Path, problem: Callable[[dict], str] = lambda row: "") -> list[dict]:
    """The objects of a JSON-lines file, as `each_row` gives them."""
    return list(each_row(path, problem))


def each_row(path: Path, problem: Callable[[dict], str]) -> Iterator[dict]:
    """The objects of a JSON-lines file, oldest first; a missing file is empty. A last line without its newline that
    does not parse was torn by a kill and is left out.

    ValueError, naming file and line, for any other line that is no JSON object, or in which `problem` finds one.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n") and _is_torn(line):
                return
            yield parsed(path, number, line, problem)


def _is_torn(line: bytes) -> bool:
    try:
        _decoded(line)
    except ValueError:
        return True
    return False


def parsed(path: Path, number: int, line: bytes, problem: Callable[[dict], str]) -> dict:
    """The object of one line, as in `each_row`."""
    try:
        row = _decoded(line)
        found = problem(row) if isinstance(row, dict) else "is no JSON object"
    except ValueError as error:
        row, found = {}, f"is broken ({error})"
    if found:
        raise ValueError(f"{path} line {number}: {found}; delete this line and start the run again")
    return row


def _decoded(line: bytes) -> Any:
    """As `json.loads` in half its time; that reads what orjson refuses, lone surrogates for one, or says why not."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return DECODER.decode(line.decode(json.detect_encoding(line), "surrogatepass"))


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object of a whole file; ValueError, naming it, where it holds something else."""
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is broken ({error}): delete it and start the run again, answers are kept") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no JSON object: delete it and start the run again, answers are kept")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"JSON knows no {constant}")


DECODER = json.JSONDecoder(parse_constant=_refuse)
"""One for all lines: `json.loads` with a `parse_constant` makes one for each, a seventh of its time."""
