"""Every method is brought to a set budget, or says why it cannot have it; settings can be rows."""

import dataclasses

import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st
from methods import FRAMES
from report_runs import COLUMNS, DENSE, FASTV, SHARPV, first_wrong, write_record, write_run
from videos import video_of

from sharpv.configuration import configure
from sharpv.configuration.budgets import Reach, at_budget, at_budgets
from sharpv.paths import REPOSITORY
from sharpv.pruners.controls import FewerFrames
from sharpv.pruners.dycoke import DyCokeMerge
from sharpv.pruners.evs import EVS
from sharpv.pruners.fastv import FastV
from sharpv.pruners.flashvid import FlashVID
from sharpv.pruners.flashvid_inner import FlashVIDInner
from sharpv.pruners.framefusion import FrameFusion
from sharpv.pruners.holitom import HoliTom
from sharpv.pruners.holitom_inner import HoliTomInner
from sharpv.pruners.prunevid_attention import PruneVidAttention
from sharpv.pruners.pyramiddrop import PyramidDrop
from sharpv.pruners.sharpv import VisualSharpV
from sharpv.pruners.sharpv_budget import SharpVBudget, scaled
from sharpv.pruners.vtw import VTW
from sharpv.reports.figures.build import write_figures
from sharpv.reports.terminal import essence
from sharpv.reports.write import write_report

PAPER = REPOSITORY / "results" / "paper"


@pytest.fixture(scope="module", autouse=True)
def _hydra():
    configure.register_resolvers()
    with initialize_config_dir(str(configure.CONFIGS), version_base="1.3"):
        yield


def table_rows(*overrides):
    config = compose("config", list(overrides))
    return configure.table_rows(config, config.model)


def mean_share(row, depth=8, frames=FRAMES):
    fed = row.visual.requested_ratio(frames) if row.visual else 1.0
    return fed * (row.memory.mean_share(depth) if row.memory else 1.0)


def test_every_row_of_the_field_table_has_its_budget_or_a_reason():
    rows, beyond = table_rows("experiment=field_table", "profile=tiny")
    for row in rows:
        if row.budget is not None and row.name.split("@")[0] not in ("scissor", "sharpv_manual"):
            assert mean_share(row) == pytest.approx(row.budget), row.name
            assert row.settings["visual" if row.visual else "memory"] is not None
    assert {row.name for row in rows if row.budget is None} == {"dense", "sharpv_adaptive", "prunevid"}
    names = {row.name.split("@")[0] for row in rows}
    assert {"evs@0.25", "evs@0.15", "divprune@0.05", "sharpv_manual@0.1", "holitom@0.15"} <= {row.name for row in rows}
    assert len({row.hash for row in rows}) == len({(row.name, row.seed) for row in rows})
    given_up = {one.method for one in beyond} - {row.method.split(" @")[0] for row in rows}
    assert given_up == {"PyramidDrop", "DyCoke (K=0.7)"}
    one_frame = {(one.method, one.budget) for one in beyond if "frames" in one.reason and "DyCoke" not in one.method}
    assert one_frame == {(method, budget) for method in ("EVS", "Fewer frames") for budget in (0.1, 0.05)}
    assert len(names) == 23
    assert all(one.reason for one in beyond)


@pytest.mark.parametrize("share", [0.3, 0.6])
@pytest.mark.parametrize("memory", [FastV(), VTW(), PyramidDrop()], ids=repr)
def test_a_memory_stage_alone_reaches_a_mean_over_the_layers(memory, share):
    changed = memory.at_budget(share, 28)
    assert changed.mean_share(28) == pytest.approx(share, abs=0.5 / 28 if isinstance(memory, VTW) else 1e-6)
    assert type(changed) is type(memory)


@pytest.mark.parametrize("memory", [HoliTomInner(), FlashVIDInner()], ids=repr)
def test_a_late_stage_alone_cannot_reach_less_than_the_layers_before_it(memory):
    assert memory.at_budget(0.8, 28).mean_share(28) == pytest.approx(0.8)
    with pytest.raises(ValueError, match=r"makes it 30\.0%"):
        memory.at_budget(0.3, 28)


def test_an_average_budget_is_the_authors_own_for_two_stages():
    """FlashVID at 25% feeds 1.25 times as much; HoliTom counts what its inner stage takes out of the later layers."""
    of_flashvid = Reach("llava_ov_7b", 32, 28, {})
    row = dataclasses.replace(table_rows("pruner=flashvid", "rows=[]")[0][1], visual=FlashVID(), memory=FlashVIDInner())
    changed = at_budget(row, 0.25, of_flashvid)
    assert changed.visual.keep_ratio == pytest.approx(0.25)
    assert changed.visual.requested_ratio(32) == pytest.approx(0.3125)
    row = dataclasses.replace(row, visual=HoliTom(), memory=HoliTomInner())
    assert at_budget(row, 0.25, of_flashvid).visual.keep_ratio == pytest.approx(0.25 * 28 / 23)


def test_what_a_method_cannot_reach_is_told_with_what_it_can():
    with pytest.raises(ValueError, match=r"37\.5% of the tokens do"):
        DyCokeMerge().at_budget(0.25, 8)
    assert DyCokeMerge().at_budget(0.5, 8).requested_ratio(8) == pytest.approx(0.5)
    with pytest.raises(ValueError, match=r"first 3 of 28 layers compute all rows, 10\.7%"):
        FastV().at_budget(0.1, 28)
    with pytest.raises(ValueError, match=r"25\.0% of all"):
        PyramidDrop().at_budget(0.25, 28)
    with pytest.raises(ValueError, match="less than the rows of one"):
        FrameFusion().at_budget(0.05, 8)
    assert FrameFusion().at_budget(0.05, 28).keep_ratio == 0.05
    for whole_frames in (EVS(), FewerFrames(keep_ratio=0.5)):
        with pytest.raises(ValueError, match=r"12\.5% .*cannot keep 10\.0%"):
            whole_frames.at_budget(0.1, 8)
        assert whole_frames.at_budget(0.125, 8).keep_ratio == 0.125
    for depth in (2, 10):
        with pytest.raises(ValueError, match="compute all rows, 100"):
            PruneVidAttention(layer=depth - 1, scale_layers=False).at_budget(0.5, depth)
    assert VisualSharpV().at_budget(0.25, 8) is None
    rows, _ = table_rows("pruner=scissor")
    reach = Reach("tiny", 8, 8, {"scissor": {"tau": {0.25: 0.9}}})
    assert at_budget(rows[1], 0.25, reach).visual.tau == 0.9
    (row,), (one,) = at_budgets(rows[1:], [0.25, 0.1], reach)
    assert (row.name, row.method) == ("scissor@0.25", "LLaVA-Scissor @25%")
    assert "calibrate model=tiny pruner=scissor target_vr=0.1`" in one.reason


def test_a_threshold_that_is_not_calibrated_on_a_model_is_told_with_the_command_that_finds_it():
    rows = [row for name in ("scissor", "sharpv_manual") for row in table_rows(f"pruner={name}")[0][1:]]
    found, beyond = at_budgets(rows, [0.25], Reach("qwen3_vl_8b@16", 16, 28, {}))
    assert found == rows, "each stands once, at its own threshold"
    for one, name, field in zip(beyond, ("scissor", "sharpv_manual"), ("tau", "threshold"), strict=True):
        find = f"calibrate model=qwen3_vl_8b pruner={name} target_vr=0.25 model.frames=16 calibrate.folder=FOLDER"
        assert find in one.reason
        assert f"configs/model/qwen3_vl_8b.yaml as calibration.budgets.{name}.{field}: {{0.25: VALUE}}" in one.reason


def test_a_calibrated_budget_is_known_by_its_share_not_by_its_digits():
    (row,) = table_rows("pruner=scissor")[0][1:]
    assert at_budget(row, 1 / 3, Reach("tiny", 8, 8, {"scissor": {"tau": {0.33333334: 0.7}}})).visual.tau == 0.7
    for frames in (8, 49, 98):
        assert EVS().at_budget(1 / frames, frames).keep_ratio == pytest.approx(1 / frames)


def test_a_setting_that_a_budget_would_overrule_is_refused():
    for row in ("evs keep_ratio=0.3", "holitom visual.keep_ratio=0.3", "vtw layer=3"):
        with pytest.raises(ValueError, match="which its budget of 0.5 sets to"):
            table_rows(f"rows=[dense,'{row}']", "budgets=[0.5]")
    rows, beyond = table_rows("rows=[dense,'sharpv_manual visual.threshold=1.0']", "budgets=[0.5]")
    assert (rows[1].visual.threshold, beyond[0].reason[:28]) == (1.0, "its threshold is calibrated ")
    with pytest.raises(ValueError, match="which its budget of 0.5 sets"):
        table_rows("pruner=evs", "+pruner.visual_options={keep_ratio: 0.3}", "budgets=[0.5]")


def test_settings_that_a_budget_leaves_alone_stay():
    acting = ("holitom visual.beta=0.5", "holitom memory.keep_ratio=0.3", "dycoke_k07 memory.layer=5")
    rows, _ = table_rows(f"rows=[dense,{','.join(repr(row) for row in acting)}]", "budgets=[0.5]")
    assert rows[1].visual.beta == 0.5
    assert rows[2].memory.keep_ratio == 0.3
    assert rows[3].memory.layer == 5
    assert all(row.budget == 0.5 for row in rows[1:])


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12), st.integers(1, 20), st.data())
def test_counts_add_up_and_no_frame_gets_more_than_it_has(weights, most, data):
    total = data.draw(st.integers(1, most * len(weights)))
    count_T = scaled(torch.tensor(weights, dtype=torch.float64), total, most)
    assert count_T.sum() == total
    assert 0 <= count_T.min() <= count_T.max() <= most


def test_frames_share_a_set_budget_in_proportion_to_their_own_counts():
    assert scaled(torch.tensor([1.0, 2.0, 3.0]).double(), 12, 10).tolist() == [2, 4, 6]
    assert scaled(torch.tensor([1.0, 2.0, 3.0]).double(), 12, 5).tolist() == [2, 5, 5]
    assert scaled(torch.tensor([0.0, 0.0, 9.0]).double(), 10, 6).tolist() == [2, 2, 6]


def test_sharpv_at_its_own_share_keeps_what_sharpv_keeps():
    video = video_of(torch.randn(FRAMES, 30, 32, generator=torch.Generator().manual_seed(3)))
    own = VisualSharpV().select(video)
    same = SharpVBudget(len(own.origin_K) / video.total).select(video)
    changed = set(own.origin_K.tolist()) ^ set(same.origin_K.tolist())
    assert len(same.origin_K) == len(own.origin_K)
    # Eq. 4 rounds each frame, a set total their running sum: a frame may differ by one token.
    assert len(changed) <= FRAMES


def test_a_row_may_have_settings():
    rows, _ = table_rows("rows=[dense,'evs keep_ratio=0.1','holitom memory.keep_ratio=0.3 visual.beta=0.5']")
    assert [row.name for row in rows[:2]] == ["dense", "evs (keep_ratio=0.1)"]
    assert rows[1].visual == EVS(0.1)
    assert (rows[2].memory.keep_ratio, rows[2].visual.beta, rows[2].visual.keep_ratio) == (0.3, 0.5, 0.25)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("evs kep_ratio=0.1", "Did you mean 'keep_ratio'"),
        ("holitom keep_ratio=0.1", "both stages have a field 'keep_ratio'"),
        ("evs keep_ratio", "must be field=value"),
        ("evs inner.layer=3", "must be field=value"),
        ("evs memory.layer=3", "has no field 'layer'"),
    ],
)
def test_a_setting_that_no_stage_or_both_have_is_told(row, told):
    with pytest.raises(ValueError, match=told):
        table_rows(f"rows=[dense,'{row}']")


@pytest.fixture
def field(tmp_path):
    at = {"row": "evs@0.25", "method": "EVS @25%", "kind": "method", "kept": 9}
    inner = {**FASTV, "row": "fastv@0.25", "method": "FastV @25%", "kept": 36}
    lower = {**at, "row": "evs@0.1", "method": "EVS @10%", "kept": 4}
    rows = [(DENSE, first_wrong(1)), (SHARPV, first_wrong(2)), (at, first_wrong(2)), (inner, first_wrong(3))]
    folder = write_run(tmp_path / "runs" / "one", [*rows, (lower, first_wrong(4))])
    budgets = {"dense": None, "sharpv_adaptive": None, "evs@0.25": 0.25, "fastv@0.25": 0.25, "evs@0.1": 0.1}
    unreachable = [{"method": "FastV", "budget": 0.1, "reason": "it is too deep"}]
    return write_record(tmp_path / "field.json", {folder: {"budgets": budgets, "unreachable": unreachable}})


def test_the_field_table_has_a_section_a_budget_and_says_what_is_not_there(field, tmp_path):
    table = write_report("field_table", [field], tmp_path, PAPER, COLUMNS)
    at_quarter = table[table["budget_pct"] == 25].set_index("method")
    assert at_quarter.index.tolist() == ["FastV", "EVS"] or at_quarter.index.tolist() == ["EVS", "FastV"]
    dense = table[table["kind"] == "dense"].iloc[0]
    assert at_quarter.loc["EVS", "of_dense_pct"] == pytest.approx(
        100 * at_quarter.loc["EVS", "avg_acc"] / dense["avg_acc"]
    )
    assert at_quarter.loc["EVS", "layers_pct"] == pytest.approx(25)
    page = (tmp_path / "field_table.md").read_text(encoding="utf-8")
    parts = page.split("\n## ")
    assert [part.splitlines()[0].split(": ")[-1] for part in parts[1:4]] == [
        "dense and own budgets",
        "25% of the visual tokens",
        "10% of the visual tokens",
    ]
    assert "SharpV (Adaptive)" in parts[1]
    assert "| FastV" not in parts[1]
    assert " n/a |" in next(line for line in parts[3].splitlines() if line.startswith("| FastV"))
    assert "FastV at 10%: n/a, it is too deep." in page
    assert "nan" not in page
    assert r"\begin{table*}" in (tmp_path / "field_table.tex").read_text(encoding="utf-8")
    assert "25.0" in essence(table)


def test_a_field_table_of_rows_without_budgets_is_refused(tmp_path):
    folder = write_run(tmp_path / "runs" / "one", [(DENSE, first_wrong(1)), (SHARPV, first_wrong(2))])
    with pytest.raises(ValueError, match="experiment=field_table"):
        write_report("field_table", [write_record(tmp_path / "a.json", {folder: {}})], tmp_path, PAPER, COLUMNS)


def test_pictures_of_a_field_table_are_of_budgets_and_of_losses_at_each(field, tmp_path):
    written, left_out = write_figures([field], tmp_path / "pictures", PAPER / "table3.csv", tmp_path, highlight=["EVS"])
    assert {path.stem for path in written} == {"field", "loss_25", "loss_10"}
    assert all("film_strip" in reason for reason in left_out)
    assert "<!-- EVS -->" in (tmp_path / "pictures" / "field.svg").read_text(encoding="utf-8")
