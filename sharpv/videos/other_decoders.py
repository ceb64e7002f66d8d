"""decord and torchcodec, for those who want them. What they do not read as players and PyAV do is refused: edit lists,
display matrices, AVI, another count of frames. Damage and changes of resolution they do not tell.

Shape suffixes: T frames.
"""

from pathlib import Path

import av

from sharpv.videos.container import require_plain
from sharpv.videos.sampled import Sampled
from sharpv.videos.sampling import Sampling


def by_decord(path: Path, sampling: Sampling) -> Sampled:
    import decord

    try:
        expected = require_plain(path)
        reader = decord.VideoReader(str(path.absolute()), num_threads=1)
        _require_count(len(reader), expected)
        places = sampling.indices(len(reader), reader.get_avg_fps()).tolist()
        return Sampled(reader.get_batch(places).asnumpy(), places, None, len(reader), reader.get_avg_fps())
    except (decord.DECORDError, ValueError, av.error.FFmpegError) as error:
        raise _refused(path, "decord", error) from error


def by_torchcodec(path: Path, sampling: Sampling) -> Sampled:
    try:
        from torchcodec.decoders import VideoDecoder

        expected = require_plain(path)
        decoder = VideoDecoder(str(path.absolute()), dimension_order="NHWC", seek_mode="exact")
        _require_count(len(decoder), expected)
        places = sampling.indices(len(decoder), float(decoder.metadata.average_fps or 0)).tolist()
        fps = float(decoder.metadata.average_fps or 0)
        return Sampled(decoder.get_frames_at(places).data.numpy(), places, None, len(decoder), fps)
    except (RuntimeError, ValueError, av.error.FFmpegError) as error:
        if "Could not load libtorchcodec" in str(error):
            raise ImportError("torchcodec finds no FFmpeg libraries") from error
        raise _refused(path, "torchcodec", error) from error


def _require_count(found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(f"it counts {found} frames where the file holds {expected}")


def _refused(path: Path, decoder: str, error: Exception) -> ValueError:
    """decord reads few transport streams, torchcodec no short ones, which PyAV does read."""
    return ValueError(
        f"video {path} cannot be read by {decoder}: {str(error).splitlines()[0]}; decoder=pyav may read it"
    )
