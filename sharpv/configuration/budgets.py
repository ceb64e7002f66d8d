"""Rows at set budgets: each method brought to the same share of the visual tokens, mean over the model's layers."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sharpv.configuration.rows import Row
from sharpv.typed import command

DEPTH = 28
"""Layers of a model whose checkpoint is not on this machine, for rows that are only looked at."""


@dataclass(frozen=True)
class Unreachable:
    """A method and a budget that it cannot have, with the reason."""

    method: str
    budget: float
    reason: str


@dataclass(frozen=True)
class Reach:
    """What of a model decides how a method reaches a budget: its name, the frames that it sees, its layers, and the
    thresholds that were calibrated on it, by row, field of the visual stage and budget."""

    model: str
    frames: int
    depth: int
    calibrated: Mapping[str, Mapping[str, Mapping[float, float]]]


def at_budgets(rows: list[Row], budgets: list[float], reach: Reach) -> tuple[list[Row], list[Unreachable]]:
    """The rows once a budget, named `evs@0.25`, the dense one and those whose share the video or a threshold of their
    own decides as they are; and what cannot be reached in this model."""
    found: list[Row] = []
    beyond: list[Unreachable] = []
    for row in rows:
        if row.visual is not None and row.visual.calibrates and row.name not in reach.calibrated:
            found.append(row)
            field, _ = row.visual.calibrates
            reasons = [_uncalibrated(field, {}, row, budget, reach) for budget in budgets]
            beyond += [Unreachable(row.method, *told) for told in zip(budgets, reasons, strict=True)]
            continue
        for budget in budgets:
            try:
                changed = at_budget(row, budget, reach)
            except ValueError as error:
                beyond.append(Unreachable(row.method, budget, str(error)))
                continue
            if changed is None:
                found.append(row)
                break
            found.append(changed)
    return found, list(dict.fromkeys(beyond))


def at_budget(row: Row, budget: float, reach: Reach) -> Row | None:
    """The row with this share of the visual tokens, mean over the layers of prefill; None where it sets none.

    A visual stage in front of a memory stage that takes more out feeds as many more as make the mean right, as HoliTom
    and FlashVID count theirs. A threshold is the calibrated one. ValueError where the method cannot reach the budget.
    """
    visual, memory, depth = row.visual, row.memory, reach.depth
    if visual is not None and visual.calibrates:
        visual = _calibrated(visual, row, budget, reach)
    elif visual is not None:
        behind = memory.mean_share(depth) if memory else 1.0
        if budget > behind:
            raise ValueError(f"its memory stage alone makes it {behind:.1%}: more than that needs other settings there")
        visual = visual.at_budget(budget / behind, reach.frames)
    elif memory is not None:
        memory = memory.at_budget(budget, depth)
    if (visual, memory) == (None, None) or (row.visual is not None and visual is None):
        return None
    settings = {name: _recorded(row.settings[name], stage) for name, stage in (("visual", visual), ("memory", memory))}
    return dataclasses.replace(
        row,
        name=f"{row.name}@{budget:g}",
        method=f"{row.method} @{100 * budget:g}%",
        visual=visual,
        memory=memory,
        settings=settings,
        budget=budget,
    )


def _calibrated(visual: Any, row: Row, budget: float, reach: Reach) -> Any:
    field, _ = visual.calibrates
    values = reach.calibrated.get(row.name, {}).get(field, {})
    found = [value for known, value in values.items() if math.isclose(known, budget, rel_tol=1e-6)]
    if not found:
        raise ValueError(_uncalibrated(field, values, row, budget, reach))
    return dataclasses.replace(visual, **{field: found[0]})


def _uncalibrated(field: str, values: Mapping[float, float], row: Row, budget: float, reach: Reach) -> str:
    """That a threshold lacks for a budget, and the command that finds it."""
    known, (model, _, frames) = ", ".join(f"{one:.0%}" for one in values) or "no budget", reach.model.partition("@")
    if " " in row.name:
        return f"its {field} is calibrated for {known} with these settings on {model}"
    more = f" model.frames={frames}" if frames else ""
    more += "" if model == "tiny" else " calibrate.folder=FOLDER"
    find = command(f"calibrate model={model} pruner={row.name} target_vr={budget:g}{more}")
    return (
        f"its {field} is calibrated for {known} on {reach.model}; `{find}` finds it, for configs/model/{model}.yaml as "
        f"calibration.budgets.{row.name}.{field}: {{{budget:g}: VALUE}}"
    )


def _recorded(settings: Any, stage: Any) -> Any:
    return settings | dataclasses.asdict(stage) if stage is not None else None
