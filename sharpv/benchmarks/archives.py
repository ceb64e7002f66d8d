"""Archives of videos: found with their parts, read as one, and unpacked whole or not at all."""

import bz2
import gzip
import io
import lzma
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from sharpv.benchmarks.validation import POINTER

NAME = re.compile(r"(?P<whole>.+?)(?:_(?P<before>\d+))?\.(?P<kind>zip|tar|tgz)(?P<packing>\.(?:gz|bz2|xz))?", re.I)
PART = re.compile(r"\.(?:part\.?)?-?(?:(?P<number>\d+)|(?P<letters>[a-z]{2,}))", re.I)
OPENERS = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ", lzma.open))
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, ValueError)
BLOCK = 512
NAMED = 3
COPIED = 1 << 20


@dataclass(frozen=True)
class Archive:
    """The parts of one archive in order, as a rule one; numbers of parts that should lie between them and do not."""

    parts: tuple[Path, ...]
    missing: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        more = f" (and {len(self.parts) - 1} more parts)" if len(self.parts) > 1 else ""
        return f"{self.parts[0]}{more}"


def archives(folder: Path) -> list[Archive]:
    """All archives below a folder; parts (x.tar.00, x.tar.aa, x_1.tar, x.zip.001) in the order of their numbers."""
    found: dict[str, dict[int | None, Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and (named := _named(path)) is not None:
            found.setdefault(named[0], {})[named[1]] = path
    return [archive for whole, parts in found.items() for archive in _in_order(whole, parts)]


def _named(path: Path) -> tuple[str, int | None] | None:
    """The whole archive that a file is or is a part of, and its number there; None for what is no archive."""
    match = NAME.match(path.name)
    if match is None:
        return None
    rest, kind = path.name[match.end() :], match["kind"].lower()
    if not rest:
        split = match["before"] is not None and kind == "tar"
        whole = path.parent / (f"{match['whole']}_*.{kind}" if split else path.name)
        return str(whole), int(match["before"]) if split else None
    part = PART.fullmatch(rest)
    if part is None:
        return None
    number = int(part["number"]) if part["number"] else _of_letters(part["letters"].lower())
    return f"{path.parent / path.name[: match.end()]}", number


def _of_letters(letters: str) -> int:
    """aa, ab, ... as 0, 1, ..."""
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - ord("a")
    return number


def _in_order(whole: str, parts: dict[int | None, Path]) -> list[Archive]:
    if None in parts:
        return [Archive((parts[None],))]
    numbers = sorted(number for number in parts if number is not None)
    if numbers[0] > 1 and "_*." in whole:
        # clips_2013.tar is no part of anything; x.tar.02 is.
        return [Archive((path,)) for path in parts.values()]
    missing = set(range(min(numbers[0], 1), numbers[-1])) - set(numbers)
    return [Archive(tuple(parts[number] for number in numbers), tuple(sorted(missing)))]


def unpack_archive(archive: Archive, target: Path) -> int:
    """Unpack what is not there with its size already; how many files that were.

    Files are collected beside the target and moved there when the whole archive was read: a damaged one leaves nothing.
    ValueError naming the archive where it is damaged, encrypted, no archive at all, or larger than the free disk.
    """
    staging = target.with_name(f".{target.name}.unpacking")
    made: list[tuple[Path, Path]] = []
    shutil.rmtree(staging, ignore_errors=True)
    try:
        _require_archive(archive)
        target.mkdir(parents=True, exist_ok=True)
        _require_space(target, _size_to_come(archive, target))
        for name, size, content in tqdm(_members(archive), archive.parts[0].name, unit="file"):
            place = (target / name).resolve()
            if not place.is_relative_to(target.resolve()):
                raise _OutsideError(f"{archive.name} holds {name!r}, which would be written outside {target}")
            if place.is_file() and place.stat().st_size == size:
                continue
            _require_space(staging.parent, size)
            made.append((_write(staging / str(len(made)), content, size), place))
        _require_no_clash([place for _, place in made])
        for file, place in made:
            place.parent.mkdir(parents=True, exist_ok=True)
            file.replace(place)
    except _OutsideError:
        raise
    except DAMAGE as error:
        raise ValueError(f"{archive.name} cannot be unpacked: {error}; run hf download again") from error
    except OSError as error:
        raise ValueError(f"{archive.name} cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return len(made)


class _OutsideError(ValueError):
    """A member's name leaves the target: no damage, but hostile."""


def _require_archive(archive: Archive) -> None:
    if archive.missing:
        listed = ", ".join(map(str, archive.missing[:NAMED])) + (", ..." if len(archive.missing) > NAMED else "")
        raise ValueError(f"of its parts number {listed} is missing")
    with archive.parts[0].open("rb") as file:
        head = file.read(BLOCK)
    if head.startswith(POINTER):
        raise ValueError("it is a git-lfs pointer, not the file itself")
    if re.match(rb"\s*<(?:!doctype|html|\?xml)", head, re.I):
        raise ValueError("it is a web page, not an archive")


def _size_to_come(archive: Archive, target: Path) -> int:
    """Bytes of what is not there yet; of a compressed tar, which says it only when read, that of its first file."""
    wanted = 0
    with _joined(archive) as joined:
        compressed = joined.read(BLOCK).startswith(tuple(magic for magic, _ in OPENERS))
    for name, size, _ in _members(archive):
        place = target / name
        wanted += 0 if place.is_file() and place.stat().st_size == size else size
        if compressed:
            break
    return wanted


def _require_no_clash(places: list[Path]) -> None:
    files = set(places)
    for place in places:
        if place.is_dir() or any(parent in files or parent.is_file() for parent in place.parents):
            raise ValueError(f"{place} would be both a file and a folder")


def _require_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise OSError(f"it needs {size / 1e9:.2f} GB more, {free / 1e9:.2f} GB are free in {folder}")


def _write(file: Path, content: IO[bytes], size: int) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as copy:
        shutil.copyfileobj(content, copy, COPIED)
    if (written := file.stat().st_size) != size:
        raise ValueError(f"a member has {written} bytes instead of {size}")
    return file


def _members(archive: Archive) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Name, size and content of each file but those that macOS adds."""
    with _joined(archive) as joined:
        of_kind = _of_zip if zipfile.is_zipfile(joined) or ".zip" in archive.parts[0].name.lower() else _of_tar
        joined.seek(0)
        for name, size, content in of_kind(joined):
            if "__MACOSX" not in Path(name).parts and not Path(name).name.startswith("._"):
                yield name, size, content


def _of_zip(joined: IO[bytes]) -> Iterator[tuple[str, int, IO[bytes]]]:
    with zipfile.ZipFile(joined) as archive:
        items = [item for item in archive.infolist() if not item.is_dir()]
        for item in items:
            if item.flag_bits & 1:
                raise ValueError(f"{item.filename} is encrypted")
            try:
                with archive.open(item) as content:
                    yield item.filename, item.file_size, content
            # zipfile's word for a compression that it does not know.
            except NotImplementedError as error:
                raise ValueError(f"{item.filename}: {error}") from error


def _of_tar(joined: IO[bytes]) -> Iterator[tuple[str, int, IO[bytes]]]:
    head = joined.read(BLOCK)
    joined.seek(0)
    opener = next((opener for magic, opener in OPENERS if head.startswith(magic)), None)
    plain: Any = opener(joined) if opener else joined
    start: int | None = 0
    while start is not None:
        plain.seek(start)
        with tarfile.open(fileobj=plain, mode="r:") as archive:
            for member in archive:
                if member.isfile() and (content := archive.extractfile(member)) is not None:
                    yield member.name, member.size, content
            start = _next_archive(plain, archive.offset)


def _next_archive(plain: Any, end: int) -> int | None:
    """Where an archive behind this one starts, None where there is none; ValueError where this one has no end marker.

    Without the marker what was read is the beginning only, or glued from parts that do not belong together.
    """
    plain.seek(end)
    if plain.read(BLOCK) != bytes(BLOCK):
        raise ValueError("it breaks off: its end marker is missing")
    while block := plain.read(BLOCK):
        if block.strip(b"\0"):
            return plain.tell() - len(block)
    return None


class _Joined(io.RawIOBase):
    """Several files as one, to be read from any place."""

    def __init__(self, files: Sequence[IO[bytes]]):
        self.files, self.place = files, 0
        self.sizes = [file.seek(0, io.SEEK_END) for file in files]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: sum(self.sizes)}[whence]
        self.place = max(0, origin + offset)
        return self.place

    def tell(self) -> int:
        return self.place

    def readinto(self, buffer: Any) -> int:
        start = 0
        for file, size in zip(self.files, self.sizes, strict=True):
            if self.place < start + size:
                file.seek(self.place - start)
                count = file.readinto(memoryview(buffer)[: start + size - self.place])  # type: ignore[attr-defined]
                self.place += count
                return count
            start += size
        return 0


@contextmanager
def _joined(archive: Archive) -> Iterator[IO[bytes]]:
    with ExitStack() as stack:
        files = [stack.enter_context(part.open("rb")) for part in archive.parts]
        yield stack.enter_context(closing(io.BufferedReader(_Joined(files), COPIED)))
