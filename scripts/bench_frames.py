"""Seconds of frames by seeking against those of decoding from the start; writes results/bench/frames_*.md and .csv.

The videos are made once, in a folder of their own: a moving texture at 25 frames a second, a key frame every 48 or 250
frames or also at cuts, of which the longer files are repetitions without encoding anew. Seconds are the processor's:
one thread works, and on a shared machine the clock on the wall tells of others' work too.
"""

import argparse
import re
import shlex
import sys
import time
from fractions import Fraction
from pathlib import Path
from statistics import median

import av
import numpy as np
import pandas as pd
import torch
from tabulate import tabulate

from sharpv import paths
from sharpv.answering import environment
from sharpv.videos.container import by_pyav, by_pyav_from_start
from sharpv.videos.sampling import Evenly

FPS, SECONDS = 25, 60
KINDS = {
    "key frame every 48": (48, (), "scenecut=0"),
    "at cuts and after 250": (250, (4, 11, 15, 22, 26, 33, 41, 45, 52, 56), ""),
    "key frame every 250": (250, (), "scenecut=0"),
    "open GOP, every 250": (250, (), "scenecut=0:open-gop=1"),
}
"""Most frames between key frames, seconds of cuts to another texture, further options of x264's, whose defaults make a
key frame at a cut. An open GOP gives no frame at which a decoder may surely begin."""
SIZE = (320, 240)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, nargs="+", default=[1, 10, 60])
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--folder", type=Path, default=paths.REPOSITORY / ".cache" / "bench_frames")
    chosen = parser.parse_args()
    size = tuple(chosen.size)
    sized = "" if size == SIZE else f"{size[0]}x{size[1]}"
    measured = [
        measure(video(chosen.folder / sized, kind, minutes, size), kind, minutes, Evenly(chosen.frames), chosen.repeats)
        for kind in KINDS
        for minutes in chosen.minutes
    ]
    hardware = environment.hardware(torch.device("cpu"))
    name = re.sub(r"\W+", "_", hardware["cpu"]).strip("_").lower()
    path = paths.results_dir() / "bench" / f"frames_{name}{sized and '_' + sized}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    report = text(measured, chosen.frames, chosen.repeats, size, hardware)
    path.write_text(report, encoding="utf-8")
    pd.DataFrame(measured).to_csv(path.with_suffix(".csv"), index=False)
    print(report, path)


def measure(path: Path, kind: str, minutes: int, sampling: Evenly, repeats: int) -> dict[str, object]:
    """Median seconds of both ways, one after the other in each repetition; ValueError where their frames differ."""
    start_s, seek_s = [], []
    for _ in range(repeats):
        began = time.process_time()
        whole = by_pyav_from_start(path, sampling)
        between = time.process_time()
        sought = by_pyav(path, sampling)
        start_s.append(between - began)
        seek_s.append(time.process_time() - between)
        if not np.array_equal(whole.frames_THWC, sought.frames_THWC) or whole.places != sought.places:
            raise ValueError(f"{path}: seeking gives other frames than decoding from the start")
    return {
        "video": kind,
        "minutes": minutes,
        "frames": whole.total,
        "from_start_s": median(start_s),
        "default_s": median(seek_s),
        "ratio": median(start_s) / median(seek_s),
        "lowest_ratio": min(one / other for one, other in zip(start_s, seek_s, strict=True)),
        "way": sought.way,
    }


def video(folder: Path, kind: str, minutes: int, size: tuple[int, int]) -> Path:
    """A file of so many minutes, made unless it is there."""
    path = folder / f"{re.sub(r'[^a-z0-9]+', '_', kind.lower())}_{minutes}min.mp4"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.mp4")
        if minutes == 1:
            encode(partial, size, *KINDS[kind])
        else:
            repeat(video(folder, kind, 1, size), partial, minutes)
        partial.replace(path)
    return path


def encode(path: Path, size: tuple[int, int], spacing: int, cuts: tuple[int, ...], options: str) -> None:
    """A minute of a texture that moves, with a square that moves against it."""
    width, height = size
    textures_HWC = [
        np.random.default_rng(shot).integers(60, 190, (height // 8, width // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        for shot in range(len(cuts) + 1)
    ]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = width, height, "yuv420p", spacing
        stream.options = {"x264-params": options} if options else {}
        for number in range(FPS * SECONDS):
            shot = sum(number >= FPS * cut for cut in cuts)
            picture_HWC = np.roll(textures_HWC[shot], (number, 2 * number), axis=(0, 1))
            picture_HWC[100:140, number % 280 : number % 280 + 40] = (255, number % 256, 0)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture_HWC, format="rgb24")))
        container.mux(stream.encode())


def repeat(minute: Path, path: Path, times: int) -> None:
    """The minute so many times, one behind the other, its packets copied."""
    with av.open(str(path), "w") as target:
        stream = None
        for number in range(times):
            with av.open(str(minute)) as source:
                stream = stream or target.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(source.streams.video[0]):
                    if packet.size:
                        shift = round(number * SECONDS / Fraction(packet.time_base))
                        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                        packet.stream = stream
                        target.mux(packet)


def text(measured: list[dict], frames: int, repeats: int, size: tuple[int, int], hardware: dict) -> str:
    """The page: what ran, and a line a video."""
    facts = [", ".join(f"{k} {v}" for k, v in fact.items()) for fact in (hardware, environment.versions())]
    head = ["video", "minutes", "from its start (s)", "as by default (s)", "ratio", "lowest ratio", "by"]
    lines = [
        [
            one["video"],
            one["minutes"],
            *(f"{one[name]:.2f}" for name in ("from_start_s", "default_s", "ratio", "lowest_ratio")),
            one["way"],
        ]
        for one in measured
    ]
    sides = ["left", *["right"] * 5, "left"]
    return f"""# Frames by seeking

Command: `python {shlex.join(sys.argv)}`
Hardware: {facts[0]}
Versions: {facts[1]}
Read: {frames} frames, evenly, of H.264, {size[0]} x {size[1]} at {FPS} frames a second; frames of both ways: equal.

{tabulate(lines, head, "github", disable_numparse=True, colalign=sides)}

Seconds of the processor: median of {repeats} repetitions, in each of which both ways ran one after the other; the
lowest ratio is that of one repetition. Files of more than a minute repeat the first one's packets. They lay in the
system's cache; one decoder thread, as always. Cuts come every 3 to 8 seconds. The machine may have been shared.
"""


if __name__ == "__main__":
    main()
