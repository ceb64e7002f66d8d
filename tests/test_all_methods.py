"""What every method promises: on made-up videos (visual stages), and around the tiny random model (all).

Shape suffixes: T frames, P tokens per frame, D width, N tokens, K kept rows.
"""

import copy
import dataclasses

import pytest
import torch
from families import FAMILIES
from methods import MEMORY, TOTAL, VISUAL, pruner_of
from transformers.models.siglip.modeling_siglip import SiglipMultiheadAttentionPoolingHead
from videos import TOKENS, WIDTH, drifting, video_of

from sharpv.pruners.fastvid import FastVID
from sharpv.pruners.scissor import Scissor
from sharpv.pruners.sharpv import VisualSharpV
from sharpv.pruners.view import KeepCache
from sharpv.tokens import Selection

ALL = [*VISUAL, *MEMORY]
WHOLE = [method.whole for method in ALL if method.whole is not None]
ANSWER = 4
SIGLIP = ("llava_onevision", "llava_video")
WITH_CLS = ("pllava", "internvl")


@pytest.fixture(scope="module", params=["llava_onevision", "pllava", *FAMILIES])
def family(request):
    return request.param


@pytest.fixture(scope="module")
def made(request, family):
    """The random model of a family and its inputs."""
    if family in FAMILIES:
        return FAMILIES[family]()
    return request.getfixturevalue(f"{family}_model"), request.getfixturevalue(f"{family}_inputs")


@pytest.fixture(scope="module")
def model(made, family):
    """The random model of a family; those with SigLIP's tower with the pooling head that FastVID asks for."""
    found = made[0]
    if family not in SIGLIP:
        yield found
        return
    tower = found.model.vision_tower
    tower = getattr(tower, "vision_model", tower)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tower.head = SiglipMultiheadAttentionPoolingHead(tower.config).eval()
    yield found
    del tower.head


@pytest.fixture(scope="module")
def inputs(made):
    return made[1]


@pytest.fixture(autouse=True)
def _needs_a_pooling_head(request):
    """Only SigLIP has attention pooling, so FastVID says so (`test_fastvid_refuses_a_tower_without_its_head`)."""
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    stage = getattr(parameters.get("method"), "stage", parameters.get("stage"))
    if isinstance(stage, FastVID) and parameters.get("family", "llava_onevision") not in SIGLIP:
        pytest.skip("FastVID needs SigLIP's pooling head")


def test_fastvid_refuses_a_tower_without_its_head(model, inputs, family):
    if family not in SIGLIP:
        with pytest.raises(ValueError, match="head"), pruner_of(FastVID())(model):
            logits_of(model, inputs)


def logits_of(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits[0, -1]


def generate(model, inputs):
    return model.generate(**inputs, max_new_tokens=ANSWER, do_sample=False)


def hooks_of(model):
    kinds = ("_forward_hooks", "_forward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)


def fail_inside(model, inputs):
    """A run that stops in the middle of the decoder's last layer."""

    def fail(module, args):
        raise RuntimeError("from within")

    with model.model.language_model.layers[-1].mlp.register_forward_pre_hook(fail):
        logits_of(model, inputs)


@pytest.mark.parametrize("stage", WHOLE, ids=repr)
def test_keeping_everything_is_the_dense_model(model, inputs, stage):
    expected, expected_logits = generate(model, inputs), logits_of(model, inputs)
    with pruner_of(stage)(model) as report:
        torch.testing.assert_close(logits_of(model, inputs), expected_logits, rtol=0, atol=1e-5)
        assert torch.equal(generate(model, inputs), expected)
    assert report.vr == report.mr == 1
    assert stage.may_keep_all


@pytest.mark.parametrize("method", ALL, ids=repr)
def test_an_answer_of_the_declared_budget_from_a_restored_model(model, inputs, family, method, record_property):
    before = copy.deepcopy(dict(inputs))
    expected, hooks = logits_of(model, inputs), hooks_of(model)
    with pruner_of(method.stage)(model) as report:
        answer = generate(model, inputs)
        assert torch.equal(answer, generate(model, inputs)), "a second run differs"
    assert answer.shape[1] == inputs["input_ids"].shape[1] + ANSWER
    assert len(report.reads) == ANSWER - 1
    assert report.layout.dense_visual == TOTAL
    record_property("vr", report.vr)
    record_property("mr", report.mr)
    ours, other = (report.vr, report.mr) if method in VISUAL else (report.mr, report.vr)
    assert 0 < ours < 1
    assert other == 1
    budget = None if method.cls_decides and family in WITH_CLS else method.budget
    assert ours == pytest.approx(budget or ours, abs=method.tolerance)
    assert not method.stage.may_keep_all or getattr(method.stage, "keep_ratio", None) is None
    assert all(torch.equal(inputs[name], value) for name, value in before.items() if isinstance(value, torch.Tensor))
    assert hooks_of(model) == hooks
    assert torch.equal(logits_of(model, inputs), expected)


@pytest.mark.parametrize("method", ALL, ids=repr)
def test_restored_after_an_exception(model, inputs, method):
    expected, hooks = logits_of(model, inputs), hooks_of(model)
    broken = {**inputs, "input_ids": inputs["input_ids"][:, :-1].repeat(1, 2)}
    broken.pop("mm_token_type_ids", None)
    with pytest.raises(ValueError, match="not contiguous|do not match"), pruner_of(method.stage)(model):
        logits_of(model, broken)
    with pytest.raises(RuntimeError, match="from within"), pruner_of(method.stage)(model):
        fail_inside(model, inputs)
    assert hooks_of(model) == hooks
    assert torch.equal(logits_of(model, inputs), expected)


def recorded(memory, found):
    """The stage, with all rows that it asks for added to `found`."""
    memory = copy.copy(memory)

    def watch(name):
        inner = getattr(memory, name)

        def outer(*args):
            result = inner(*args)
            for order in result.values() if isinstance(result, dict) else [result]:
                kinds = {Selection: "origin_K", KeepCache: "index"}
                index = getattr(order, kinds.get(type(order), "_"), order)
                found.extend([index] if index is not None else [])
            return result

        setattr(memory, name, outer)

    for name in ("keep_rows", "keep_cache", "attend"):
        watch(name)
    return memory


def require_rows(origin_K, total, ascending):
    real_K = origin_K[origin_K >= 0]
    assert len(real_K.unique()) == len(real_K)
    assert not len(real_K) or real_K.max() < total
    assert not ascending or (origin_K.diff() > 0).all()


@pytest.mark.parametrize("method", MEMORY, ids=repr)
def test_rows_asked_for_are_sorted_unique_and_in_range(model, inputs, method):
    found = []
    with pruner_of(recorded(method.stage, found))(model):
        generate(model, inputs)
    assert found
    for index_K in found:
        assert (index_K >= 0).all()
        require_rows(index_K, TOTAL, method.ascending)


@pytest.mark.parametrize("method", VISUAL, ids=repr)
def test_rows_kept_are_as_promised_and_repeat(method):
    video = video_of(drifting())
    first, second = (method.stage.select(video) for _ in range(2))
    require_rows(first.origin_K, video.total, method.ascending)
    assert torch.equal(first.origin_K, second.origin_K)
    assert torch.equal(first.rows(video.features_ND), second.rows(video.features_ND))


@pytest.mark.parametrize("stage", [method.whole for method in VISUAL if method.whole is not None], ids=repr)
@pytest.mark.parametrize("frames", [1, 7])
def test_keeping_everything_leaves_the_rows_as_they_are(stage, frames):
    video = video_of(drifting(frames))
    selection = stage.select(video)
    assert selection.origin_K.tolist() == list(range(video.total))
    assert torch.equal(selection.rows(video.features_ND), video.features_ND)


def with_a_gap():
    features_TPD = drifting(5)
    features_TPD[2] = 0
    return features_TPD


@pytest.mark.parametrize("method", VISUAL, ids=repr)
@pytest.mark.parametrize("has_cls", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "features_TPD",
    [
        *map(drifting, (1, 2, 3)),
        drifting(1).expand(8, -1, -1),
        torch.ones(5, TOKENS, WIDTH),
        with_a_gap(),
        torch.zeros(8, TOKENS, WIDTH),
    ],
    ids=[
        "one frame",
        "two frames",
        "three frames",
        "identical frames",
        "equal tokens",
        "a black frame",
        "zero vectors",
    ],
)
def test_odd_videos(method, features_TPD, has_cls, dtype):
    video = video_of(features_TPD.to(dtype), has_cls)
    selection = method.stage.select(video)
    rows_KD = selection.rows(video.features_ND)
    require_rows(selection.origin_K, video.total, method.ascending)
    assert len(selection) <= video.total + video.frames
    assert len(selection) > 0 or isinstance(method.stage, VisualSharpV)
    assert rows_KD.dtype == dtype
    if not (isinstance(method.stage, Scissor) and method.stage.official):
        assert rows_KD.isfinite().all()
    assert len(selection.per_frame(video)) == video.frames


@pytest.mark.parametrize("method", VISUAL, ids=repr)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_features_that_are_not_finite_are_refused(method, value):
    features_TPD = drifting()
    features_TPD[4, 3, 2] = value
    with pytest.raises(ValueError, match="frame 4"):
        method.stage.select(video_of(features_TPD))


SETTINGS = [
    (method.stage, field.name)
    for method in ALL
    for field in dataclasses.fields(method.stage)
    if field.init and isinstance(getattr(method.stage, field.name), float)
]


@pytest.mark.parametrize(
    ("stage", "name"), SETTINGS, ids=lambda value: value if isinstance(value, str) else repr(value)
)
@pytest.mark.parametrize("value", [float("nan"), True, "0.5"])
def test_a_setting_that_is_no_finite_number_is_refused(stage, name, value):
    with pytest.raises(ValueError, match=name):
        dataclasses.replace(stage, **{name: value})
