"""`python run.py unpack benchmark=...`: a benchmark's downloaded videos where lmms-eval looks for them too."""

from pathlib import Path

from omegaconf import DictConfig

from sharpv import paths
from sharpv.benchmarks.archives import archives, unpack_archive
from sharpv.benchmarks.availability import NotAvailableError, annotations, is_any
from sharpv.commands.run import grid

MEDIA = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".ts", ".jpg", ".jpeg", ".png")


def unpack(config: DictConfig, command: str) -> int:
    """Unpack the archives of the benchmarks' snapshots and link what lies there unpacked; what is there stays.

    A benchmark or an archive that fails does not keep the others; ValueError naming all of them at the end.
    """
    failed: list[str] = []
    for benchmark in grid(config)[1]:
        if benchmark.data == "tiny":
            print(f"{benchmark.name}: nothing to unpack, its data is made by the run")
            continue
        try:
            failed += _unpack(benchmark)
        except ValueError as error:
            failed.append(f"{benchmark.name}: {error}")
    if failed:
        raise ValueError("\n".join(failed))
    return 0


def _unpack(benchmark: DictConfig) -> list[str]:
    """Unpack one benchmark; what failed."""
    if is_any(benchmark):
        raise ValueError("its task's own functions say where its videos lie: put them there, nothing is unpacked")
    if (found := annotations(benchmark)).problem:
        raise NotAvailableError(found.told)
    snapshot = paths.hub_snapshot(benchmark.data, "dataset", benchmark.get("revision"))
    assert snapshot is not None
    target, made, failed = paths.hub_dir() / benchmark.folder, 0, []
    packed, loose = archives(snapshot), _with_media(snapshot)
    if not packed and not loose:
        raise ValueError(
            f"{snapshot} holds neither archives nor videos: its download is incomplete, run hf download again"
        )
    for archive in packed:
        try:
            made += unpack_archive(archive, target)
        except ValueError as error:
            failed.append(f"{benchmark.name}: {error}")
    linked = sum(_link(source, target / source.name) for source in loose)
    links = f", {linked} links made to what lies unpacked in {snapshot}" if loose else ""
    print(f"{benchmark.name}: {made} files unpacked into {target}{links}", flush=True)
    return failed


def _with_media(snapshot: Path) -> list[Path]:
    """What of a snapshot's top level is a video or a picture, or a folder that holds some at any depth."""
    return [
        entry
        for entry in sorted(snapshot.iterdir())
        if entry.suffix.lower() in MEDIA or any(path.suffix.lower() in MEDIA for path in entry.rglob("*"))
    ]


def _link(source: Path, place: Path) -> int:
    """Link a file or folder from where videos are looked for; folders that are there already are filled up."""
    # Of an older snapshot, or of one that was deleted.
    if (
        place.is_symlink()
        and place.readlink() != source
        and ("snapshots" in place.readlink().parts or not place.exists())
    ):
        place.unlink()
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(source)
        return 1
    if place.is_dir() and source.is_dir() and not place.samefile(source):
        return sum(_link(inner, place / inner.name) for inner in sorted(source.iterdir()))
    return 0
