"""Whether a dense row is that of the published model: a wrong checkpoint behind a name is this field's commonest fault.

Published rows: results/paper/dense.csv, a line a checkpoint and column, with its source.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from sharpv.paths import paper_dir
from sharpv.reports.tables.paper_names import shown_name

PUBLISHED = paper_dir() / "dense.csv"
NEAR = 1.5
"""Points within which an average looks like the published one: what other decoders and harness versions have moved."""


def fingerprints(
    table: pd.DataFrame, infos: Sequence[Mapping[str, Any]], published: pd.DataFrame | None = None
) -> list[str]:
    """What each model's dense row looks like, a sentence a model; nothing of tables without accuracies, of models
    that no published row is about, and of runs over a part of the questions, whose accuracies are no one's.

    infos: of the runs, their `model`, `versions` and `limit`.
    """
    if "kind" not in table:
        return []
    known = pd.read_csv(PUBLISHED) if published is None else published
    told_of = {shown_name(info["model"]): info for info in reversed(infos)}
    told = []
    for _, dense in table[table["kind"] == "dense"].iterrows():
        info = told_of.get(dense["model"])
        if info is not None and info.get("limit") is None:
            told += _told(dense["model"], dense, info["model"], info.get("versions", {}), known)
    return told


def _told(
    name: str, dense: pd.Series, model: Mapping[str, object], versions: Mapping[str, object], known: pd.DataFrame
) -> list[str]:
    own = known[known["model"] == model.get("path")]
    own = own[[column in dense and pd.notna(dense[column]) for column in own["column"]]]
    if own.empty:
        return []
    gaps = {line["column"]: float(dense[line["column"]] - line["accuracy"]) for _, line in own.iterrows()}
    mean = sum(gaps.values()) / len(gaps)
    shown = ", ".join(f"{column} {gap:+.1f}" for column, gap in gaps.items())
    sources = "; ".join(dict.fromkeys(own["source"]))
    if all(abs(gap) <= NEAR for gap in gaps.values()):
        return [f"{name}: its dense row looks like the published model ({shown} points against {sources})."]
    suspects = [*_nearer(dense, known, own, model), *_frames(model, own)]
    suspects.append(f"decoder and versions ({', '.join(f'{what} {version}' for what, version in versions.items())})")
    suspects.append("the split and the prompt of the benchmark")
    return [
        f"{name}: its dense row differs from the published one by {mean:+.1f} points on average ({shown}; {sources}). "
        f"First suspects: {'; '.join(suspects)}. Until that is explained no row here speaks about the published model."
    ]


def _nearer(dense: pd.Series, known: pd.DataFrame, own: pd.DataFrame, model: Mapping[str, object]) -> list[str]:
    """The published model that is nearest on the same columns, where that is another one."""
    distances = {}
    for path, part in known[known["column"].isin(own["column"])].groupby("model"):
        if set(part["column"]) == set(own["column"]):
            distances[str(path)] = max(abs(dense[line["column"]] - line["accuracy"]) for _, line in part.iterrows())
    nearest = min(distances, key=lambda path: distances[path])
    if nearest == model.get("path") or distances[nearest] > NEAR:
        return []
    return [f"another checkpoint behind the name: these are the numbers of {nearest}, within {distances[nearest]:.1f}"]


def _frames(model: Mapping[str, object], own: pd.DataFrame) -> list[str]:
    published = int(own["frames"].iloc[0])
    seen = model.get("frames")
    return [] if seen in (None, published) else [f"{seen} frames where {published} are published"]
