"""Decoded frames kept on disk, so that a later run over the same videos decodes nothing.

Shape suffixes: T frames, H height, W width, C channels.
"""

import hashlib
import json
import os
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

import numpy as np

from sharpv.configuration.code import code_hash
from sharpv.videos.fingerprint import fingerprint
from sharpv.videos.sampled import Sampled
from sharpv.videos.sampling import Sampling

ENDING, PARTIAL = ".frames", ".partial"
ABANDONED_S = 3600.0
"""Age at which a half-written file belongs to a process that was killed."""
PACKAGES = {"pyav": "av", "pyav_from_start": "av"}


class FrameCache:
    """Frames by video, sampling, decoder and the code that reads them, one file each: a line of their checksum, a line
    of facts in JSON, and the distinct frames as they are (T x H x W x 3 bytes).

    Any number of processes may use one folder: a file appears whole or not at all, and which of two equal ones stays
    does not matter. ValueError for a folder that cannot be written.
    """

    def __init__(self, folder: Path):
        self.folder = folder.expanduser()
        self.code = code_hash(["sharpv.videos.frames"])
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()
        except OSError as error:
            raise ValueError(
                f"frames_cache={self.folder} cannot be written: {error.strerror or error}; name another folder"
            ) from error
        for partial in self.folder.glob(f"*{PARTIAL}"):
            _drop_abandoned(partial)

    def read(
        self, video: Path, sampling: Sampling, decode: Callable[[Path, Sampling], Sampled]
    ) -> tuple[Sampled, bool]:
        """The frames, and whether they were here; else they are decoded and kept. Folders of pictures are not kept."""
        if not video.is_file():
            return decode(video, sampling), False
        entry = self.entry(video, sampling)
        if (stored := _stored(entry)) is not None:
            return stored, True
        sampled = decode(video, sampling)
        self._keep(entry, sampled)
        return sampled, False

    def entry(self, video: Path, sampling: Sampling) -> Path:
        """The file of these frames. Its name knows when the video was written too: a damaged file that was replaced
        may be equal in size and at both ends."""
        asked = [fingerprint(video), video.stat().st_mtime_ns, repr(sampling), _version(sampling.decoder), self.code]
        return self.folder / f"{hashlib.sha256(json.dumps(asked).encode()).hexdigest()}{ENDING}"

    def told(self, ways: Mapping[str, int]) -> str:
        """In words, how many of these videos were found here, and the size of all that is."""
        hits, asked = ways.get("cache", 0), sum(ways.values())
        sizes = [file.stat().st_size for file in self.folder.glob(f"*{ENDING}")]
        share = f" ({hits / asked:.0%})" if asked else ""
        return (
            f"{hits} of {asked}{share} videos' frames from {self.folder}: {len(sizes)} files, {sum(sizes) / 1e9:.3g} GB"
        )

    def _keep(self, entry: Path, sampled: Sampled) -> None:
        """A full disk costs the run nothing but this entry."""
        _, first, of_distinct = np.unique(sampled.places, return_index=True, return_inverse=True)
        frames_THWC = np.ascontiguousarray(sampled.frames_THWC[first])
        facts = [sampled.places, sampled.decode_errors, sampled.total, sampled.fps, sampled.way]
        header = json.dumps([frames_THWC.shape, of_distinct.tolist(), facts]).encode()
        partial = self.folder / f"{uuid.uuid4().hex}{PARTIAL}"
        try:
            with partial.open("xb") as file:
                file.write(_checksum(header, frames_THWC.data) + b"\n" + header + b"\n")
                file.write(frames_THWC.data)
            partial.replace(entry)
        except OSError as error:
            partial.unlink(missing_ok=True)
            warnings.warn(f"frames are not kept in {self.folder}: {error.strerror or error}", stacklevel=2)


def _drop_abandoned(partial: Path) -> None:
    """Another process may have finished or dropped it meanwhile."""
    try:
        if time.time() - partial.stat().st_mtime > ABANDONED_S:
            partial.unlink()
    except FileNotFoundError:
        return


def _version(decoder: str) -> str:
    """Of the decoder's package; a decoder that is not there has none, and says so itself when it is asked."""
    try:
        return metadata.version(PACKAGES.get(decoder, decoder))
    except metadata.PackageNotFoundError:
        return ""


def _checksum(header: bytes, frames: memoryview) -> bytes:
    digest = hashlib.sha256(header)
    digest.update(frames)
    return digest.hexdigest().encode()


def _stored(entry: Path) -> Sampled | None:
    """What an entry holds; None where there is none, or it is not what was written, which is said."""
    try:
        content = bytearray(os.path.getsize(entry))
        with entry.open("rb") as file:
            file.readinto(content)
    except FileNotFoundError:
        return None
    checksum, _, rest = bytes(content[: 1 << 20]).partition(b"\n")
    header, _, _ = rest.partition(b"\n")
    start = len(checksum) + len(header) + 2
    if checksum != _checksum(header, memoryview(content)[start:]):
        warnings.warn(f"{entry} is broken: its frames are decoded anew", stacklevel=2)
        return None
    shape, of_distinct, facts = json.loads(header)
    frames_THWC = np.frombuffer(content, np.uint8, offset=start).reshape(shape)
    if of_distinct != list(range(len(frames_THWC))):
        frames_THWC = frames_THWC[of_distinct]
    return Sampled(frames_THWC, *facts)
