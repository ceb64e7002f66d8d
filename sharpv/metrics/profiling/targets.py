"""What a profile is held to: one line per target, with the worst case and every row that misses it."""

from collections.abc import Callable
from dataclasses import dataclass

from sharpv.metrics.profiling.results import Compared


@dataclass(frozen=True)
class Target:
    """rows: whom it is asked of. miss: how far off a row is, low = good, missed above `limit`. unsure: whether the
    quartiles of what is compared overlap."""

    text: str
    rows: Callable[[Compared], bool]
    miss: Callable[[Compared], float]
    limit: float
    unsure: Callable[[Compared], bool] = lambda row: False


def _decode_overlaps(row: Compared) -> bool:
    return row.value("tpot_s_low") <= row.dense_value("tpot_s_high")


def _kv_error(row: Compared) -> float:
    return abs(row.value("kv_bytes") / row.value("kv_bytes_predicted") - 1)


TARGETS = [
    Target("overhead of `sharpv` under 1% of dense TTFT", lambda r: r.name == "sharpv", lambda r: r.overhead, 0.01),
    Target("TTFT of `sharpv` within 10% of its bound", lambda r: r.name == "sharpv", lambda r: r.over_bound, 0.1),
    Target("KV bytes after prefill within 1% of prediction", lambda r: True, _kv_error, 0.01),
    Target(
        "peak prefill memory no higher than dense",
        lambda r: r.name != "dense",
        lambda r: r.ratio("peak_prefill_bytes") - 1,
        0.0,
    ),
    Target(
        "decode no slower than dense (`dycoke` copies its cache by definition)",
        lambda r: r.name not in ("dense", "dycoke"),
        lambda r: r.ratio("tpot_s") - 1,
        0.0,
        _decode_overlaps,
    ),
]


def target_lines(blocks: dict[int, list[Compared]]) -> list[str]:
    """The targets' table of one section, as markdown; a target that no row answers is left out."""
    lines = ["| target | worst | missed by (pruner at frames: how far) |", "| --- | ---: | --- |"]
    for target in TARGETS:
        found = [(target.miss(row), row.name, frames, target.unsure(row)) for frames, block in blocks.items()
                 for row in block if target.rows(row)]  # fmt: skip
        if not found:
            continue
        worst, name, frames, _ = max(found)
        missed = [
            f"{name} at {frames}: {miss:+.1%}{'*' if unsure else ''}"
            for miss, name, frames, unsure in found
            if miss > target.limit
        ]
        lines.append(f"| {target.text} | {worst:+.2%}, {name} at {frames} | {'; '.join(missed) or 'none'} |")
    return [*lines, "", "\\* medians differ, quartiles overlap: within this run's noise.", ""]
