"""`with Pruner(...)(model)` around inputs that the family's own processor made of decoded frames, as users make them.

Shape suffixes: B batch, N rows of the dense prompt, K kept rows, V vocabulary.
"""

from pathlib import Path

import pytest
import torch
from checkpoints import byte_tokenizer
from families import FAMILIES
from transformers import (
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from sharpv import Pruner, VisualSharpV
from sharpv.models import adapter_for
from sharpv.videos.frames import read_video

VIDEOS = Path(__file__).parent / "fixtures" / "own_task" / "videos"
PICTURE = 48 * 48
TEMPLATE = """{% for turn in messages %}<|im_start|>{{ turn['role'] }}
{% for part in turn['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}<|vision_start|><|\
{{ part['type'] }}_pad|><|vision_end|>{% endif %}{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


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
    """The stock classes over pictures of 6 x 6 tokens; Qwen3's bounds are of a whole video's pixels."""
    cut = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2}
    picture = {"shortest_edge": PICTURE, "longest_edge": PICTURE}
    images = Qwen2VLImageProcessor(**cut, size=picture)
    if family == "qwen2_5_vl":
        videos = Qwen2VLVideoProcessor(**cut, size=picture, fps=4)
        return Qwen2_5_VLProcessor(images, byte_tokenizer(), videos, chat_template=TEMPLATE)
    whole = {"shortest_edge": 2 * PICTURE, "longest_edge": 8 * PICTURE}
    videos = Qwen3VLVideoProcessor(**cut, size=whole, fps=4, cap_pixels_per_frame=False)
    return Qwen3VLProcessor(images, byte_tokenizer(), videos, chat_template=TEMPLATE)


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
    return made(processor, asked(processor, "video"), [decoded("one.mp4")], do_sample_frames=True)


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
