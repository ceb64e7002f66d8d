"""`python run.py demo video=PATH question="..."`: an answer with and without pruning, a film strip of what was kept."""

import textwrap
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import DictConfig

from sharpv import paths, typed
from sharpv.answering import environment, keys, work
from sharpv.answering.store import RowStore
from sharpv.benchmarks.availability import require_available
from sharpv.benchmarks.samples import Sample
from sharpv.configuration import configure
from sharpv.configuration.rows import Row
from sharpv.models.loaded import VIDEO, Loaded
from sharpv.reports.store import read_samples
from sharpv.tiny.corpus import prompt_text
from sharpv.tiny.questions import LETTERS, Question
from sharpv.videos.frames import read_video

MAX_NEW_TOKENS = 64
LETTER_REQUEST = "Answer with the option's letter from the given choices directly."
TINY = (
    "The tiny model knows only the made-up videos that it was trained on (tasks/tiny): about any other video its words "
    "mean nothing, and only what was kept is worth looking at."
)


def demo(config: DictConfig, command: str, loaded: Loaded | None = None) -> int:
    """Print the dense and the pruned answer with VR, MR and TTFT; write results/demo/<video>_<pruner>.{png,svg}.

    config: `video`, `question`, `options`, `model`, `pruner`. TTFT is that of a second, warm pass. `loaded` replaces
    the loading of the model. Returns the exit code 0. ValueError where the question or a pruner is missing, and with
    the reason where the video cannot be read or an answer failed.
    """
    video, options = _video(config), list(map(str, config.options))
    rows = _rows(config)
    if loaded is None:
        paths.go_offline()
        model = configure.build(config.model)
        require_available([model], [])
        loaded = model.load()
    text = question_text(str(config.question), options, config.model.name == "tiny")
    answers = answer(loaded, rows, video, text if VIDEO in loaded.prompt else f"{VIDEO}\n{text}")
    hardware = environment.hardware(loaded.device)
    print(
        f"{config.model.display} on {hardware.get('gpu', hardware['cpu'])}: {video.name}, {answers[0]['frames']} frames"
    )
    print(f"\n{text}\n\n{table(answers)}\n")
    if config.model.name == "tiny":
        print(textwrap.fill(TINY, 100))
    written = film(video, str(config.question), answers, paths.results_dir() / "demo")
    print(f"film strip: {', '.join(map(str, written))}")
    return 0


def _video(config: DictConfig) -> Path:
    if not config.video or not config.question:
        raise ValueError(f'the demo needs both: {typed.command("demo video=PATH")} question="What is moving?"')
    if len(config.options) > len(LETTERS):
        raise ValueError(f"{len(config.options)} options; give at most {len(LETTERS)}")
    video = Path(config.video).expanduser()
    if not video.exists():
        raise ValueError(f"{video} does not exist")
    return video


def _rows(config: DictConfig) -> list[Row]:
    dense, pruned = (configure.rows(one, config.model)[0] for one in (configure.load("pruner", "dense"), config.pruner))
    if pruned.kind == "dense":
        raise ValueError(f"pruner={pruned.name} prunes nothing: choose another, e.g. pruner=sharpv_adaptive")
    return [dense, pruned]


def question_text(question: str, options: list[str], tiny: bool) -> str:
    """The user's text as the benchmarks write it; the tiny model knows only its own way to ask."""
    if tiny:
        return prompt_text(Question("", question, "", "", tuple(options)), "letter" if options else "open")
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)]
    return "\n".join([question, *lines, *([LETTER_REQUEST] if options else [])])


def answer(loaded: Loaded, rows: list[Row], video: Path, text: str) -> list[dict[str, Any]]:
    """Each row's stored answer, as a run would store it. ValueError with the reason of the first that failed."""
    from sharpv.answering.runner import Runner

    sample = Sample("demo", "demo", 0, text, video, "", MAX_NEW_TOKENS, keys.digest(text))
    with TemporaryDirectory() as folder:
        store = RowStore(Path(folder))
        Runner(loaded, store).run(work.questions([sample], rows, "demo", memory_every=0))
        store.close()
        answers = read_samples(Path(folder))
    if failed := next((row["error"] for row in answers if row["status"] == "error"), None):
        raise ValueError(failed)
    return answers


def table(answers: list[dict[str, Any]]) -> str:
    """One line an answer: shares of tokens fed and of their KV read, time to the first token, words."""
    width = max(len(row["method"]) for row in answers)
    head = f"{'':{width}}      VR      MR      TTFT  answer"
    lines = [f"{row['method']:{width}}  {_costs(row)}  {row['raw'] or '(empty)'}" for row in answers]
    return "\n".join([head, *lines])


def _costs(row: dict[str, Any]) -> str:
    return f"{row['vr']:6.1%}  {row['mr']:6.1%}  {1e3 * row['ttft_s']:5.0f} ms"


def film(video: Path, question: str, answers: list[dict[str, Any]], folder: Path) -> list[Path]:
    """Write the film strip of the pruned answers; its files."""
    from sharpv.reports.figures.film_strip import film_strip
    from sharpv.reports.figures.style import paper_style, save
    from sharpv.reports.footage import seen_frames, seen_seconds
    from sharpv.reports.masks import kept_mask

    seen = read_video(video, seen_frames(answers[0]))
    kept = {row["method"]: kept_mask(row["kept_bits"], row["frames"], row["grid"]) for row in answers[1:]}
    captions = {row["method"]: textwrap.shorten(row["raw"], 26, placeholder="…") for row in answers[1:]}
    with paper_style():
        title, seconds = textwrap.shorten(question, 90, placeholder="…"), seen_seconds(answers[0], seen.fps)
        figure = film_strip(seen.frames_THWC, kept, title, captions, seconds=seconds)
        return save(figure, folder / f"{video.stem}_{answers[-1]['row']}")
