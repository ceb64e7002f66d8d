"""One question of a foreign task as text and the path of one video, or why it cannot be asked so; where its answer
ends."""

from pathlib import Path
from typing import Any


class NotAskedError(ValueError):
    """A message of a form that cannot be asked: images, audio, two videos, a system turn."""


def asked(task: Any, doc: dict[str, Any]) -> tuple[str, str]:
    """A question's text and the path of its video, which may be missing.

    NotAskedError for a form that cannot be asked; FileNotFoundError where the task finds no video; whatever else the
    task's functions raise.
    """
    if callable(task.config.doc_to_messages):
        return of_messages(task.doc_to_messages(doc))
    visuals = task.doc_to_visual(doc)
    # A task that gives the path itself would be read letter by letter.
    visuals = [visuals] if isinstance(visuals, str | dict) else list(visuals or [])
    return str(task.doc_to_text(doc)), _one_video(visuals)


def until_stop(text: str, settings: dict[str, Any]) -> str:
    """An answer up to the first stop of its task's generation settings; the models generate without such stops."""
    until = settings.get("until") or []
    stops = [until] if isinstance(until, str) else until
    return text[: min([len(text), *(text.find(stop) for stop in stops if stop and stop in text)])]


def of_messages(messages: list[dict[str, Any]]) -> tuple[str, str]:
    """The same of messages as lmms-eval gives them to a chat model."""
    roles = [message["role"] for message in messages]
    if roles != ["user"]:
        raise NotAskedError(f"it has turns of {roles}: only one turn of a user can be asked")
    parts = [part for part in messages[0]["content"] if part.get("text") != ""]
    kinds = [part["type"] for part in parts]
    if any(kind not in ("text", "video", "audio") for kind in kinds):
        raise NotAskedError(f"it shows {kinds}: only one video can be asked about")
    # lmms-eval takes .webm for audio, so a file's streams say what it is.
    video = _one_video([part.get("url", part.get(part["type"])) for part in parts if part["type"] != "text"])
    if kinds[0] == "text":
        raise NotAskedError("text stands before its video: the models' templates begin with the video")
    return "\n".join(part["text"] for part in parts if part["type"] == "text"), video


def _one_video(visuals: list[Any]) -> str:
    if not visuals:
        raise FileNotFoundError("the task found no video and would ask without one")
    if len(visuals) != 1 or not isinstance(visuals[0], str):
        kinds = ", ".join(type(visual).__name__ for visual in visuals[:4])
        raise NotAskedError(
            f"it shows {len(visuals)} visuals ({kinds}): the path of one whole video can be asked about"
        )
    if "://" in visuals[0]:
        raise NotAskedError(f"its video is at {visuals[0]}: download it and give its path")
    if Path(visuals[0]).is_file() and not _may_be_video(Path(visuals[0])):
        raise NotAskedError(f"{visuals[0]} holds no moving pictures")
    return visuals[0]


def _may_be_video(path: Path) -> bool:
    """Whether a file has pictures; a broken one may have had."""
    import av

    if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tiff"):
        return False
    found = True
    try:
        with av.open(str(path)) as container:
            found = bool(container.streams.video)
    except (av.FFmpegError, OSError, ValueError):
        pass
    return found
