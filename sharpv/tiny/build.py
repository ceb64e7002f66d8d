"""Build the tiny VideoLLM: a stock LLaVA-OneVision with its own word-level tokenizer and processor."""

from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Sequence, Split
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipVisionConfig,
)

from sharpv.tiny.questions import LETTERS, POOLS
from sharpv.tiny.scenes import COLOURS, DIRECTIONS, PLACES, SHAPES, SIDE

PATCH = 8
PAD, UNKNOWN, TURN_START, TURN_END, IMAGE, VIDEO = "<pad>", "<unk>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"
PROMPT = "<|im_start|>user <video> {text}<|im_end|><|im_start|>assistant "
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }} "
    "{% for c in m['content'] %}{% if c['type'] == 'video' %}<video> {% endif %}{% endfor %}"
    "{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
)
WORDS = (
    "user assistant system What colour is the moving object Where does go shape appears briefly brief that first last "
    "When seen new old changes jump to How many white dots are there happens background Is a an Describe motion goes "
    "stays turns jumps Options Best option Answer with letter in words of only give best not video show yes no"
).split(" ")
PUNCTUATION = list("?.:,()")


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A lossless word-level tokenizer over the vocabulary of the generator; words outside it become <unk>."""
    pools = [word for pool in POOLS.values() for word in pool]
    words = [*WORDS, *PUNCTUATION, *LETTERS, *pools, *COLOURS, *SHAPES, *DIRECTIONS, *PLACES]
    special = [PAD, UNKNOWN, TURN_START, TURN_END, IMAGE, VIDEO]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys([*special, *words]))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = Sequence(
        [Split(Regex(r"\s+"), "removed"), Split(Regex(r"\w+(?:-\w+)*|[^\w\s]"), "isolated")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=TURN_END,
        additional_special_tokens=[TURN_START, IMAGE, VIDEO],
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
    )


def build_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaOnevisionProcessor:
    """The stock processor at the tiny model's image size."""
    pixels = {
        "size": {"height": SIDE, "width": SIDE},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "resample": 3,
    }
    return LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(**pixels, image_grid_pinpoints=[[SIDE, SIDE]]),
        tokenizer=tokenizer,
        video_processor=LlavaOnevisionVideoProcessor(**pixels, do_sample_frames=False),
        num_image_tokens=(SIDE // PATCH) ** 2,
        vision_feature_select_strategy="full",
        chat_template=CHAT_TEMPLATE,
        image_token=IMAGE,
        video_token=VIDEO,
    )


def build_config(
    tokenizer: PreTrainedTokenizerFast,
    tower_layers: int = 3,
    tower_width: int = 96,
    layers: int = 8,
    width: int = 128,
    feed_forward: int = 384,
    heads: int = 4,
) -> LlavaOnevisionConfig:
    """The tiny model's configuration; widths and depths as asked, everything else as in LLaVA-OneVision."""
    tower = SiglipVisionConfig(
        hidden_size=tower_width,
        intermediate_size=2 * tower_width,
        num_hidden_layers=tower_layers,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=PATCH,
        vision_use_head=False,
    )
    language = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.08,
    )
    return LlavaOnevisionConfig(
        vision_config=tower,
        text_config=language,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        video_token_id=tokenizer.convert_tokens_to_ids(VIDEO),
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        image_grid_pinpoints=[[SIDE, SIDE]],
        tie_word_embeddings=True,
    )


def build_model(config: LlavaOnevisionConfig) -> LlavaOnevisionForConditionalGeneration:
    """A freshly initialised stock model that stops at the end of a turn."""
    model = LlavaOnevisionForConditionalGeneration(config)
    model.generation_config.eos_token_id = config.text_config.eos_token_id
    model.generation_config.pad_token_id = config.text_config.pad_token_id
    return model
