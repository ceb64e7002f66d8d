"""The paper audit as a page: every contradiction with what is printed, what follows, and how we read it."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from sharpv.reports.audit import checks as audit_checks
from sharpv.reports.audit import claims as audit_claims
from sharpv.reports.audit.checks import Finding, Paper, load_paper
from sharpv.reports.document import Document, Line, Section

CHECKS: Mapping[str, Callable[[Paper], Iterable[Finding]]] = {
    "averages are the means of their cells": audit_checks.averages,
    "no two models share a row of VideoMME": audit_checks.copies,
    "DyCoke's retention": audit_checks.dycoke,
    "FastV's retention over all layers": audit_checks.fastv,
    "TFLOPs by one formula": audit_checks.operations,
    "the abstract's pruning rate": audit_claims.pruning_rate,
    "token budgets are VR x MR, within rounding": audit_claims.budgets,
    "letter answers do not depend on the memory stage": audit_claims.letters,
    "memory saved against the KV cache": audit_claims.memory,
    "layers kept at M = 0.2": audit_claims.layers_kept,
    "the small model's time to first token": audit_claims.first_token,
    "speed-ups are ratios of the printed times, within rounding": audit_claims.speed_ups,
}
HEADER = ("No.", "Where", "Printed", "Recomputed", "Reading")
TITLE = "Paper audit: where the published tables contradict themselves"
SENTENCE = (
    "Recomputed from the printed numbers in results/paper/ by `make audit`. A reproduction must not be tuned to reach "
    "a number of this list."
)
NOTES = (
    (
        "A10: the first generated token comes before any decode-time pruning acts (Memory SharpV, DyCoke's second "
        "stage), so an answer of one letter cannot be changed by the memory stage; an answer of several tokens can."
    ),
    (
        "A11: PruMerge is adaptive and needs a CLS token, which SigLIP lacks; the port behind the paper's PruMerge row "
        "is not published. Ours is defined in its docstring. Nothing to recompute."
    ),
    "Means are compared with 0.1 of slack for rounding.",
    (
        "Sizes that the tables lack (feed-forward width, key heads) are those of the released models' config.json; 80 "
        "text tokens are what gives the paper's dense 41.4 TFLOPs."
    ),
)


def find(paper: Paper) -> dict[str, list[Finding]]:
    """The findings of each check; an empty list where the tables hold."""
    return {name: list(check(paper)) for name, check in CHECKS.items()}


def write_audit(paper_folder: Path, output: Path) -> list[Finding]:
    """Write the page (Markdown) from a folder of published tables; the findings in the order of their numbers."""
    by_check = find(load_paper(paper_folder))
    found = sorted((one for findings in by_check.values() for one in findings), key=lambda one: int(one.number[1:]))
    lines = [Line([one.number, one.where, one.printed, one.recomputed, one.reading]) for one in found]
    held = [name for name, findings in by_check.items() if not findings]
    notes = [*NOTES, *([f"Checked as well, and consistent: {'; '.join(held)}."] if held else [])]
    page = Document(TITLE, [Section("", SENTENCE, HEADER, lines, numbers=False)], notes=notes)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page.markdown(), encoding="utf-8")
    return found
