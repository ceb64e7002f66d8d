"""docs/methods.md is what the code and the recorded replay say."""

import dataclasses
import json
import re
import sys

import pytest

from sharpv.paths import REPOSITORY
from sharpv.pruners.base import VisualPruner
from sharpv.pruners.evs import EVS
from sharpv.pruners.prumerge import PruMerge
from sharpv.pruners.visionzip import VisionZip

sys.path.insert(0, str(REPOSITORY / "scripts"))
from make_methods_doc import DOCUMENT, METHODS, RECORD, document, golden_files, labelled, needs

AGAIN = "python scripts/make_methods_doc.py --replay"


def test_the_document_is_up_to_date():
    assert DOCUMENT.read_text() == document(json.loads(RECORD.read_text())), f"run: {AGAIN}"


def test_the_record_holds_every_golden_file_and_no_failure():
    record = json.loads(RECORD.read_text())
    assert set(record) == {f"{path.parent.name}/{path.stem}" for path in golden_files()}, f"run: {AGAIN}"
    assert {entry["verdict"] for entry in record.values()} <= {"ok", "declined"}


def test_every_golden_file_proves_exactly_one_method():
    for name in json.loads(RECORD.read_text()):
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
