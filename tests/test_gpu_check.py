"""The script for a GPU session, on a CPU: each section is reported, and one that fails does not cost the others."""

import sys

import pytest
import torch

from sharpv.paths import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "scripts"))
import gpu_check


@pytest.mark.slow
def test_every_section_runs_in_small_on_a_cpu(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SHARPV_RESULTS", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["scripts/gpu_check.py", "--device", "cpu", "--small"])
    assert gpu_check.main() == 0, capsys.readouterr()
    (report,) = (tmp_path / "gpu").glob("*_small.md")
    text = report.read_text(encoding="utf-8")
    assert all(f"## {title}\n" in text for title in gpu_check.SECTIONS)
    assert "No GPU has run it yet" in text
    assert "| KV bytes after prefill within 1% of prediction | pass |" in text
    assert "| decoding with CUDA graphs | not measured |" in text
    assert report.with_suffix(".csv").exists()


def test_a_section_that_fails_is_told_and_what_was_measured_before_and_after_stays(tmp_path, capsys):
    check = gpu_check.Check(torch.device("cpu"), True, tmp_path / "gpu" / "some", "test")
    check.section("first", lambda check: ["one"])
    check.section("broken", lambda check: [][1])
    assert "one" in (tmp_path / "gpu" / "some.md").read_text(encoding="utf-8")
    check.section("last", lambda check: ["three"])
    text = (tmp_path / "gpu" / "some.md").read_text(encoding="utf-8")
    assert "| section broken | **fail** | failed: IndexError" in text
    assert text.index("one") < text.index("**Failed**: IndexError") < text.index("three")
