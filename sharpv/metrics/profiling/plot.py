"""The crossover plot of a profile, written beside its tables."""

from importlib.util import find_spec
from pathlib import Path

from sharpv.metrics.profiling.results import compared, sections


def draw(rows: list[dict[str, str]], base: Path) -> str:
    """Speed-up over dense against frames, TTFT and decode, a file (png, svg) per section; says what was written."""
    if find_spec("matplotlib") is None:
        return "; no plot, matplotlib is not installed"
    from sharpv.metrics.profiling.crossover import crossover_figure
    from sharpv.reports.figures.style import paper_style, save

    written = []
    for index, (settings, group) in enumerate(sections(rows)):
        title = f"{settings['model']}, {settings['layers']} layers, {settings['attention']}, {settings['hardware']}"
        with paper_style():
            figure = crossover_figure(compared(group), title)
            written += save(figure, base.with_name(f"{base.name}{f'_{index}' if index else ''}"))
    return f", {', '.join(path.name for path in written)}"
