"""Every row of a table like Table 3 against any one of them, as all are against dense there."""

from collections.abc import Mapping, Sequence

import pandas as pd

from sharpv.reports.comparison import by_model, model_answers, model_name, paired, per_question
from sharpv.reports.document import Line, Section
from sharpv.reports.markup import ends, fixed, p_value
from sharpv.reports.statistics import holm
from sharpv.reports.store import Run
from sharpv.reports.tables.table3_columns import BY_SUB_TASK

HEADER = ("Method", "difference", "p sign flip", "p (Holm)", "p McNemar", "smallest detectable")


def against_reference(
    runs: Sequence[Run], table: pd.DataFrame, benchmarks: Mapping[str, str], reference: str
) -> pd.DataFrame:
    """One line a model and other row: difference of the averages to the row `reference` on the same questions in
    points, negative where it is worse, with interval and tests as `ref_*` (p_holm: over all these lines).

    ValueError naming the rows there are where a model has none of this name.
    """
    lines = []
    for group in by_model(runs).values():
        by_sub_task = {benchmarks[column] for column in benchmarks if column == BY_SUB_TASK}
        answers = model_answers(group, set(benchmarks.values()), by_sub_task)
        rows = {str(row): part for row, part in answers.groupby("row", sort=False)}
        if reference not in rows:
            known = ", ".join(rows)
            raise ValueError(f"reference={reference!r} is no row of {model_name(group[0])}; there are: {known}")
        other = rows.pop(reference)
        for row, part in rows.items():
            single = part["seed"].nunique() == 1 and other["seed"].nunique() == 1
            found = paired(per_question(part), per_question(other), single)
            named = {f"ref_{name}": value for name, value in found.items()}
            lines.append({"model": model_name(group[0]), "row": row, "reference": reference} | named)
    compared = pd.DataFrame(lines)
    compared["ref_p_holm"] = holm(compared["ref_p_sign_flip"].to_numpy(dtype=float))
    return compared


def reference_sections(table: pd.DataFrame, reference: str) -> dict[str, Section]:
    """How it looks, a section a model."""
    sections = {}
    for model, part in table.groupby("model", sort=False):
        own = part.loc[part["row"] == reference, "method"].iloc[0]
        lines = []
        for _, line in part[part["reference"].notna()].iterrows():
            interval = ends(line["ref_diff_low"], line["ref_diff_high"], sign=True)
            difference = f"{fixed(line['ref_diff'], sign=True)} {interval}"
            tests = [p_value(line[f"ref_{name}"]) for name in ("p_sign_flip", "p_holm", "p_mcnemar")]
            lines.append(Line([line["method"], difference.strip(), *tests, fixed(line["ref_smallest_detectable"])]))
        sentence = "Difference of the averages in points on the same questions; negative is worse."
        sections[str(model)] = Section(f"Against {own}", sentence, HEADER, lines)
    return sections
