"""LLaVA-Video checkpoints in the released layout, fed as lmms-eval 0.7.3's `llava_vid` feeds them.

Shape suffixes: T frames, H height, W width, C channels.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import AutoTokenizer

from sharpv.models.clip import Clip
from sharpv.models.llava_onevision.loader import siglip_pixels
from sharpv.models.llava_video.adapter import LlavaVideo, Pooling
from sharpv.models.llava_video.checkpoint import load_llava_video
from sharpv.models.loaded import VIDEO, Loaded, ModelConfig
from sharpv.runtime.adapter import SeparatorRule
from sharpv.videos.frames import PerSecond, Sampled


@dataclass
class LlavaVideoModel(ModelConfig):
    """How to load a LLaVA-Video checkpoint; `frames` is the most that are taken. Other fields: see `ModelConfig`.

    pooling: `average` is what the official evaluation and the pruning papers use, `bilinear` what the model was trained
    with. newline: what becomes of newline rows when tokens go. force_sample: always take `frames` frames, not one a
    second where those are fewer. time_instruction: tell in front of the question how long the video is and when its
    frames are. tower: sizes of a vision tower that is not SigLIP so400m.
    """

    pooling: Pooling = "average"
    newline: SeparatorRule = "occupied"
    force_sample: bool = False
    time_instruction: bool = False
    tower: dict[str, int] | None = None

    def load(self) -> Loaded:
        """Load from safetensors only; ValueError naming every missing or unexpected key."""
        folder = self.folder()
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        # The released tokenizer has no `<video>`; the id that it gets here only stands in prompts, no row embeds it.
        tokenizer.add_tokens([VIDEO], special_tokens=True)
        video = tokenizer.convert_tokens_to_ids(VIDEO)
        model = load_llava_video(folder, video, getattr(torch, self.dtype), self.backend(), self.tower)
        model.config.sharpv |= {"pooling": self.pooling, "newline": self.newline}
        stops = frozenset(map(tokenizer.convert_tokens_to_ids, self.stop_tokens))
        # For `model.generate`: the folder's generation_config.json is not read.
        model.generation_config.eos_token_id = sorted(stops)
        sampling = PerSecond(self.frames, self.decoder, self.force_sample)
        return Loaded(
            name=self.name,
            adapter=LlavaVideo(model.to(self.torch_device()), self.pooling, self.newline),
            tokenizer=tokenizer,
            preprocessor=partial(timed_pixels, side=model.config.vision_config.image_size, sampling=sampling),
            frames=sampling,
            prompt=self.prompt,
            repetition_penalty=self.repetition_penalty,
            stop_ids=stops,
            weights_hash=self.weights_hash(),
            preface=time_sentence if self.time_instruction else None,
        )


def timed_pixels(sampled: Sampled, side: int, sampling: PerSecond) -> Clip:
    """The tower's pixels with the time of each frame."""
    seconds_T = tuple(sampling.seconds(sampled.total, sampled.fps).tolist())
    return Clip(siglip_pixels(sampled.frames_THWC, side), seconds_T, sampled.total / sampled.fps)


def time_sentence(clip: Clip) -> str:
    """What the official prompt says of a video's time, its spaces included."""
    times = ",".join(f"{second:.2f}s" for second in clip.seconds_T)
    return (
        f"The video lasts for {clip.duration:.2f} seconds, and {len(clip)} frames are uniformly sampled from it. "
        f"These frames are located at {times}.Please answer the following questions related to this video."
    )
