"""`with Pruner(...)(model)` around inputs that the family's own processor made of decoded frames, as users make them,
and as docs/families.md shows.

Shape suffixes: B batch, N rows of the dense prompt, K kept rows, V vocabulary.
"""

import re
import shutil
from pathlib import Path

import pytest
import torch
from checkpoints import TOWER, qwen_processor, write_internvl, write_llava_video, write_pllava, write_qwen
from families import FAMILIES
from omegaconf import OmegaConf
from test_documented_commands import FENCED

from sharpv import MemorySharpV, Pruner, SharpV, VisualSharpV
from sharpv.configuration import configure
from sharpv.metrics.timing import StageClock
from sharpv.models import adapter_for
from sharpv.paths import REPOSITORY
from sharpv.runtime.attach import layer_hooks
from sharpv.runtime.decode import generate
from sharpv.runtime.prompt import feed
from sharpv.videos.frames import read_video

VIDEOS = Path(__file__).parent / "fixtures" / "own_task" / "videos"


def decoded(name: str, frames: int = 8, fps: float | None = None) -> tuple[list, dict]:
    """So many frames of a fixture and what transformers calls their metadata; fps: not what the file says."""
    sampled = read_video(VIDEOS / name, frames)
    metadata = {"fps": fps or sampled.fps, "total_num_frames": sampled.total, "frames_indices": sampled.places}
    return list(sampled.frames_THWC), metadata


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def family(request):
    return request.param


@pytest.fixture(scope="module")
def model(family):
    return FAMILIES[family]()[0]


@pytest.fixture(scope="module")
def processor(family):
    return qwen_processor(family)


def asked(processor, *shown: str, question: str = "What moves?") -> str:
    content = [*({"type": kind} for kind in shown), {"type": "text", "text": question}]
    return processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)


def made(processor, text, videos, **more):
    frames, metadata = zip(*videos, strict=True)
    settings = {"do_sample_frames": False, "return_tensors": "pt"} | more
    return processor(text=text, videos=list(frames), video_metadata=list(metadata), **settings)


def as_given(processor):
    return made(processor, asked(processor, "video"), [decoded("one.mp4")])


def sampled_by_the_processor(processor):
    return made(processor, asked(processor, "video"), [decoded("one.mp4")], do_sample_frames=True, fps=4)


def slow(processor):
    """So few frames a second that Qwen2.5's times run past the grid, and the text behind them."""
    return made(processor, asked(processor, "video"), [decoded("one.mp4", fps=0.1)])


def of_pixels_alone(processor):
    frames, _ = decoded("one.mp4")
    return processor(text=asked(processor, "video"), videos=[frames], do_sample_frames=False, return_tensors="pt")


def odd_in_number(processor):
    return made(processor, asked(processor, "video"), [decoded("one.mp4", 7)])


def two_in_a_prompt(processor):
    return made(processor, asked(processor, "video", "video"), [decoded("one.mp4"), decoded("two.mp4", 4)])


def beside_images(processor):
    pictures = [decoded("two.mp4")[0][0], decoded("one.mp4")[0][0]]
    text = asked(processor, "image", "video", "image")
    return made(processor, text, [decoded("one.mp4")], images=pictures)


def batch(processor):
    texts = [asked(processor, "video"), asked(processor, "video", question="And what stands still?")]
    return made(processor, texts, [decoded("one.mp4"), decoded("two.mp4", 4)], padding=True, padding_side="left")


INPUTS = [
    as_given,
    sampled_by_the_processor,
    slow,
    of_pixels_alone,
    odd_in_number,
    two_in_a_prompt,
    beside_images,
    batch,
]


def generated(model, inputs, tokens: int = 3):
    out = model.generate(
        **inputs, max_new_tokens=tokens, do_sample=False, return_dict_in_generate=True, output_logits=True
    )
    return torch.stack(out.logits, 1), out.sequences[:, -tokens:]


def hidden(model, inputs, report) -> torch.Tensor:
    """The dense prompt's mask (B, N) without the video rows that a pruner dropped."""
    mask_BN = inputs["attention_mask"].clone()
    is_video_BN = inputs["input_ids"] == adapter_for(model).video_token_id
    kept = []
    for one in report.videos or [report]:
        layout = one.layout
        kept_V = torch.zeros(layout.dense_visual, dtype=mask_BN.dtype)
        kept_V[layout.frame_V * (layout.grid[0] * layout.grid[1]) + layout.patch_V] = 1
        kept.append(kept_V)
    mask_BN[is_video_BN] = torch.cat(kept)
    return mask_BN


@torch.no_grad()
def stock_with_rows_hidden(model, inputs, mask_BN, tokens_BK) -> torch.Tensor:
    """Logits (B, K, V) of the stock model for given tokens, each row in its place of the dense prompt."""
    about = {
        name: inputs[name] for name in ("image_grid_thw", "video_grid_thw", "second_per_grid_ts") if name in inputs
    }
    positions_3BN, _ = model.model.get_rope_index(
        inputs["input_ids"], inputs["mm_token_type_ids"], attention_mask=inputs["attention_mask"], **about
    )
    call = dict(inputs) | {"attention_mask": mask_BN, "position_ids": positions_3BN}
    out, logits = model(**call, use_cache=True), []
    for step, token_B1 in enumerate(tokens_BK.split(1, 1)):
        logits.append(out.logits[:, -1])
        mask_BN = torch.cat([mask_BN, torch.ones_like(token_B1)], 1)
        out = model(
            input_ids=token_B1,
            attention_mask=mask_BN,
            position_ids=positions_3BN[..., -1:] + step + 1,
            past_key_values=out.past_key_values,
        )
    return torch.stack(logits, 1)


@pytest.mark.parametrize("make", INPUTS, ids=lambda make: make.__name__)
def test_answers_are_the_stock_models_with_the_dropped_tokens_hidden(model, processor, make):
    inputs = make(processor)
    dense, dense_tokens = generated(model, inputs)
    with Pruner()(model):
        assert torch.equal(generated(model, inputs)[0], dense)
    with Pruner(VisualSharpV())(model) as report:
        logits, tokens = generated(model, inputs)
    mask_BN = hidden(model, inputs, report)
    assert mask_BN.sum() < inputs["attention_mask"].sum()
    torch.testing.assert_close(stock_with_rows_hidden(model, inputs, mask_BN, tokens), logits, atol=2e-4, rtol=1e-4)
    everything = stock_with_rows_hidden(model, inputs, inputs["attention_mask"], dense_tokens)
    torch.testing.assert_close(everything, dense, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize(("make", "seconds"), [(as_given, 0.25), (sampled_by_the_processor, 0.5), (slow, 20.0)])
def test_times_are_those_of_the_video(family, processor, make, seconds):
    inputs = make(processor)
    if family == "qwen2_5_vl":
        assert inputs["second_per_grid_ts"].tolist() == [seconds]
    else:
        times = re.findall("<([0-9.]+) seconds>", processor.decode(inputs["input_ids"][0]))
        assert len(times) == inputs["video_grid_thw"][0, 0]
        assert float(times[1]) - float(times[0]) == pytest.approx(seconds, rel=0.5)


@pytest.mark.parametrize("make", [as_given, sampled_by_the_processor, beside_images], ids=lambda make: make.__name__)
def test_the_memory_stage_acts_behind_the_first_token(model, processor, make):
    inputs = make(processor)
    with Pruner(VisualSharpV())(model) as visual:
        first = generated(model, inputs)[0][:, 0]
    with SharpV(memory=MemorySharpV(threshold=0.9))(model) as report:
        logits, _ = generated(model, inputs)
    assert torch.equal(logits[:, 0], first)
    assert report.layout.frames == inputs["video_grid_thw"][0, 0]
    assert report.vr == visual.vr < 1
    assert report.mr < 1 == visual.mr


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen3-VL-4B-Instruct"])
def test_the_documented_call_of_a_qwen_model_runs(name, tmp_path, monkeypatch, capsys):
    write_qwen(tmp_path / "weights", "qwen3_vl" if "Qwen3" in name else "qwen2_5_vl")
    shown, _ = documented()
    run(shown.replace('"Qwen/Qwen3-VL-4B-Instruct"', f'"{tmp_path / "weights"}"'), tmp_path, monkeypatch)
    # 32 frames are 16 pairs of 6 x 6 tokens, or for Qwen3-VL as many as its bound on a video's pixels leaves.
    grid = (3, 3) if "Qwen3" in name else (6, 6)
    assert f"of {16 * grid[0] * grid[1]} visual tokens fed" in capsys.readouterr().out


def test_the_documented_call_of_llava_video_answers_what_the_suite_answers(tmp_path, monkeypatch, capsys):
    write_llava_video(tmp_path / "weights")
    settings = configure.load("model", "llava_video_7b")
    small = {
        "path": str(tmp_path / "weights"),
        "dtype": "float32",
        "frames": 8,
        "tower": TOWER,
        "repetition_penalty": 1,
    }
    monkeypatch.setattr(configure, "load", lambda group, name: OmegaConf.merge(settings, small))
    _, shown = documented()
    names = run(shown, tmp_path, monkeypatch)
    said = capsys.readouterr().out
    assert "of 288 visual tokens fed" in said
    assert "vision tower included" in said
    loaded, method = names["loaded"], Pruner.of("sharpv_adaptive")
    with torch.inference_mode(), layer_hooks(loaded.adapter) as hooks:
        embeddings, span, _ = loaded.embed("What is moving?", loaded.adapter.encode(names["pixels"]), names["pixels"])
        fed = feed(embeddings, span, 4, method.visual, 0)
        ids, report = generate(loaded.adapter, hooks, fed, method.memory, loaded.greedy(32), StageClock(loaded.device))
    assert names["ids"][0, names["prompt"].shape[1] :].tolist() == ids
    assert names["report"].visual_kv == report.visual_kv


@pytest.mark.parametrize(("name", "write"), [("pllava_7b", write_pllava), ("internvl3_8b", write_internvl)])
def test_the_documented_call_of_a_configured_model_runs_for_other_families(name, write, tmp_path, monkeypatch, capsys):
    write(tmp_path / "weights")
    small = {"path": str(tmp_path / "weights"), "dtype": "float32"}
    settings = configure.load("model", name)
    monkeypatch.setattr(configure, "load", lambda group, name: OmegaConf.merge(settings, small))
    _, shown = documented()
    if name == "pllava_7b":
        shown = shown.replace('"What is moving?", adapter', 'open_ended("What is moving?"), adapter')
        shown = f"from sharpv.models.pllava.prompts import open_ended\n{shown}"
    names = run(shown, tmp_path, monkeypatch)
    assert f"of {len(names['pixels']) * names['adapter'].grid[0] ** 2} visual tokens fed" in capsys.readouterr().out


def documented() -> list[str]:
    text = (REPOSITORY / "docs" / "families.md").read_text(encoding="utf-8")
    return [code for language, _, code in FENCED.findall(text) if language == "python"]


def run(code: str, folder: Path, monkeypatch) -> dict:
    """What a documented block leaves, run in a folder with a video."""
    shutil.copy(VIDEOS / "one.mp4", folder / "video.mp4")
    monkeypatch.chdir(folder)
    names: dict = {}
    exec(compile(code, "families.md", "exec"), names)
    assert (folder / "kept.png").exists()
    return names
