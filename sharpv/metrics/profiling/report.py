"""The tables of a profile, as markdown."""

from collections.abc import Callable

from sharpv.metrics.profiling.results import Compared, compared, sections
from sharpv.metrics.profiling.targets import target_lines
from sharpv.metrics.profiling.text import DEFINITIONS, FORCED

MIB, TERA = 2**20, 1e12


def render(rows: list[dict[str, str]]) -> str:
    """All tables, as markdown."""
    lines = [f"# Profile of {rows[0]['model']} on {rows[0]['hardware']}", "", DEFINITIONS]
    for settings, group in sections(rows):
        lines += _section(settings, group)
    return "\n".join(lines)


def _section(settings: dict[str, str], rows: list[dict[str, str]]) -> list[str]:
    cut = "" if settings["layers"].split(" of ")[0] == settings["layers"].split(" of ")[1] else ", **depth truncated**"
    lines = [
        f"## {settings['attention']}, {settings['dtype']}, {settings['layers']} decoder layers{cut}",
        "",
        *(f"- {name}: {value}" for name, value in settings.items()),
        *(f"- command: `{command}`" for command in dict.fromkeys(row["command"] for row in rows)),
        "",
    ]
    if settings["force_ratio"] != "own":
        ratio, memory = float(settings["force_ratio"]), float(settings["force_memory"])
        lines += [FORCED.format(ratio=ratio, memory=memory)]
    blocks = compared(rows)
    lines += ["### Targets", "", *target_lines(blocks)]
    for frames, block in blocks.items():
        dense = block[0].dense
        lines += [f"### {frames} frames, {dense['visual_dense']} visual tokens", ""]
        lines += [*_table(TIME, block), *_table(SIZE, block)]
        refused = [row for row in rows if row["frames"] == str(frames) and row["status"] != "ok"]
        lines += [f"- not measured: {row['pruner']}: {row['reason']}" for row in refused]
        lines += [""] if refused else []
    return lines


def _spread(row: Compared, stage: str, scale: float, digits: int) -> str:
    median, low, high = (row.value(f"{stage}_s{end}") * scale for end in ("", "_low", "_high"))
    return f"{median:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


Column = tuple[str, Callable[[Compared], str]]
NAME: Column = ("pruner", lambda row: row.name)
TIME: list[Column] = [
    NAME,
    ("VR %", lambda row: f"{100 * row.value('vr'):.1f}"),
    ("MR %", lambda row: f"{100 * row.value('mr'):.1f}"),
    ("vision ms", lambda row: f"{1e3 * row.value('vision_s'):.1f}"),
    ("prune ms", lambda row: f"{1e3 * row.value('prune_s'):.2f}"),
    ("prefill ms", lambda row: f"{1e3 * row.value('prefill_s'):.1f}"),
    ("first ms", lambda row: f"{1e3 * row.value('first_token_s'):.2f}"),
    ("TTFT s", lambda row: _spread(row, "ttft", 1, 3)),
    ("speed-up", lambda row: f"{row.speedup:.2f}"),
    ("bound", lambda row: f"{row.bound_speedup:.2f}"),
    ("over bound %", lambda row: f"{100 * row.over_bound:+.1f}"),
    ("ceiling", lambda row: f"{row.ceiling:.2f}"),
    ("overhead %", lambda row: f"{100 * row.overhead:.2f}"),
    ("TPOT ms", lambda row: _spread(row, "tpot", 1e3, 2)),
    ("samples/s", lambda row: f"{1 / row.answer_s:.3g}"),
    ("decode speed-up", lambda row: f"{row.decode_speedup:.2f}"),
]
SIZE: list[Column] = [
    NAME,
    ("TFLOPs eq5", lambda row: f"{row.value('flops_prefill_eq5') / TERA:.4g}"),
    ("exact prefill", lambda row: f"{row.value('flops_prefill') / TERA:.4g}"),
    ("exact vision", lambda row: f"{row.value('flops_vision') / TERA:.4g}"),
    ("GFLOPs a token", lambda row: f"{1e-9 * row.value('flops_decode_token'):.4g}"),
    ("weights MiB", lambda row: f"{row.value('weights_bytes') / MIB:.0f}"),
    *(
        (f"peak {stage}", lambda row, stage=stage: f"{row.value(f'peak_{stage}_bytes') / MIB:.1f}")
        for stage in ("vision", "prune", "prefill", "decode")
    ),
    ("KV", lambda row: f"{row.value('kv_bytes') / MIB:.2f}"),
    ("predicted", lambda row: f"{row.value('kv_bytes_predicted') / MIB:.2f}"),
]


def _table(columns: list[Column], block: list[Compared]) -> list[str]:
    head = ["| " + " | ".join(name for name, _ in columns) + " |", "| --- |" + " ---: |" * (len(columns) - 1)]
    return [*head, *("| " + " | ".join(show(row) for _, show in columns) + " |" for row in block), ""]
