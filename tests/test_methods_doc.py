"""docs/methods.md is what the code and the recorded replay say."""

import dataclasses
import json
import re
import sys

import pytest
import torch

from sharpv.paths import REPOSITORY
from sharpv.pruners.base import VisualPruner
from sharpv.pruners.evs import EVS
from sharpv.pruners.prumerge import PruMerge
from sharpv.pruners.scissor import Scissor
from sharpv.pruners.sharpv import VisualSharpV
from sharpv.pruners.vcast import VCast
from sharpv.pruners.visionzip import VisionZip
from sharpv.tokens import Selection

sys.path.insert(0, str(REPOSITORY / "scripts"))
from make_methods_doc import DOCUMENT, METHODS, RECORD, ROUNDING, document, golden_files, labelled, needs
from measure_rounding import changed, measure

AGAIN = "python scripts/make_methods_doc.py --replay"


def test_the_document_is_up_to_date():
    expected = document(
        json.loads(RECORD.read_text(encoding="utf-8")), json.loads(ROUNDING.read_text(encoding="utf-8"))
    )
    assert DOCUMENT.read_text(encoding="utf-8") == expected, f"run: {AGAIN}"


def test_the_effect_of_rounding_is_recorded_for_every_visual_method():
    assert {name.split(" ")[0] for name in json.loads(ROUNDING.read_text(encoding="utf-8"))} == {
        method.__name__ for method in METHODS if issubclass(method, VisualPruner)
    }


def test_the_recorded_effect_of_rounding_is_what_is_measured():
    """Of the quick methods, and coarsely: another CPU may round a near-tie to the other side."""
    record, measured = json.loads(ROUNDING.read_text(encoding="utf-8")), measure([VisualSharpV(), EVS(), VCast()])
    for name, shares in measured.items():
        assert shares == pytest.approx(record[name], abs=0.02), name


def test_what_rounding_changed_counts_tokens_of_either_choice():
    ours, other = Selection(torch.tensor([0, 1, 2])), Selection(torch.tensor([1, 2, 3, 5, 6]))
    assert changed(EVS(), ours, other, 8) == pytest.approx(4 / 8)
    assert changed(EVS(), ours, ours, 8) == 0


def test_what_rounding_changed_in_merged_rows_counts_tokens_with_other_company():
    def merged(*assign):
        return Selection(torch.full((max(assign) + 1,), -1), assign_N=torch.tensor(assign))

    assert changed(Scissor(), merged(0, 0, 1, 2), merged(2, 2, 0, 1), 4) == 0
    assert changed(Scissor(), merged(0, 0, 1, 2), merged(0, 0, 1, 1), 4) == pytest.approx(2 / 4)
    assert changed(Scissor(), merged(0, 1, 1), Selection(torch.arange(3)), 3) == pytest.approx(2 / 3)


def test_the_record_holds_every_golden_file_and_no_failure():
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    assert set(record) == {f"{path.parent.name}/{path.stem}" for path in golden_files()}, f"run: {AGAIN}"
    assert {entry["verdict"] for entry in record.values()} <= {"ok", "declined"}


def test_every_golden_file_proves_exactly_one_method():
    for name in json.loads(RECORD.read_text(encoding="utf-8")):
        assert sum(pattern is not None and bool(re.match(pattern, name)) for pattern in METHODS.values()) == 1, name


def test_labels_end_at_the_next_label_or_paragraph():
    @dataclasses.dataclass
    class Tried(VisualPruner):
        """Keeps little.

        Paper: Some, 2025. Official: a/b @ 123.

        Promises: sorted. Complexity: O(N)
        time. Deviations: none.
        """

    expected = {"Paper": "Some, 2025.", "Official": "a/b @ 123.", "Promises": "sorted.", "Complexity": "O(N) time."}
    assert labelled(Tried) == expected | {"Deviations": "none."}


def test_what_a_method_reads_of_the_tower_is_that_of_its_default_settings():
    assert needs(VisionZip) == needs(PruMerge) == "tower queries and keys, layer -1"
    assert needs(EVS) == "nothing of the tower"


def test_a_missing_label_is_named():
    class Bare(VisualPruner):
        """Keeps little. Paper: Some, 2025."""

    with pytest.raises(ValueError, match="Bare has no Official"):
        labelled(Bare)
