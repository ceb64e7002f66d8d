"""`python run.py unpack benchmark=...`: a benchmark's downloaded archives, unpacked to where lmms-eval looks too."""

import re
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import IO, Any

from omegaconf import DictConfig
from tqdm import tqdm

from sharpv import paths
from sharpv.benchmarks.availability import NotAvailableError, annotations
from sharpv.commands.run import grid


def unpack(config: DictConfig, command: str) -> int:
    """Unpack every archive of the benchmarks' snapshots; what is there already is left as it is."""
    for benchmark in grid(config)[1]:
        if benchmark.data == "tiny":
            print(f"{benchmark.name}: nothing to unpack, its data is made by the run")
            continue
        if (found := annotations(benchmark)).problem:
            raise NotAvailableError(found.told)
        snapshot = paths.hub_snapshot(benchmark.data, "dataset", benchmark.get("revision"))
        assert snapshot is not None
        target = paths.hub_dir() / benchmark.folder
        archives = sorted([*snapshot.rglob("*.zip"), *snapshot.rglob("*.tar"), *snapshot.rglob("*.tar.*")])
        if not archives:
            raise ValueError(f"{snapshot} holds no archive: its download is incomplete, run hf download again")
        made = sum(_unpack(list(parts), target) for _, parts in groupby(archives, _whole))
        print(f"{benchmark.name}: {made} files unpacked into {target}")
    return 0


def _whole(archive: Path) -> str:
    """The archive that a part belongs to: x.tar.00 and x_1.tar are parts of x.tar."""
    if archive.suffix == ".zip":
        return str(archive)
    return str(archive.parent / re.sub(r"_\d+$", "", archive.name.split(".tar")[0]))


def _unpack(parts: list[Path], target: Path) -> int:
    """Members that were not there before; each is written under a partial name first."""
    made = 0
    for name, content in tqdm(_members(parts), parts[0].name, unit="file"):
        place = (target / name).resolve()
        if not place.is_relative_to(target.resolve()):
            raise ValueError(f"{parts[0]} holds {name!r}, which would be written outside {target}")
        if place.exists():
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(place.name + ".partial")
        with partial.open("wb") as file:
            while block := content.read(1 << 20):
                file.write(block)
        partial.rename(place)
        made += 1
    return made


def _members(parts: list[Path]) -> Iterator[tuple[str, IO[bytes]]]:
    if parts[0].suffix == ".zip":
        with zipfile.ZipFile(parts[0]) as archive:
            for item in archive.infolist():
                if not item.is_dir():
                    with archive.open(item) as content:
                        yield item.filename, content
        return
    with _joined(parts) as joined, tarfile.open(fileobj=joined, mode="r|*") as archive:
        for member in archive:
            if member.isfile() and (file := archive.extractfile(member)) is not None:
                yield member.name, file


class _Parts:
    """Several files read as one stream."""

    def __init__(self, files: list[Any]):
        self.files = files

    def read(self, size: int) -> bytes:
        while self.files:
            if block := self.files[0].read(size):
                return block
            self.files.pop(0).close()
        return b""


@contextmanager
def _joined(parts: list[Path]) -> Iterator[Any]:
    files = [part.open("rb") for part in parts]
    try:
        yield _Parts(files)
    finally:
        for file in files:
            file.close()
