"""A vision-language model of a real architecture, tiny and random, as a folder in transformers' layout."""

from __future__ import annotations

from pathlib import Path

import torch

TEMPLATE = (
    "{% for message in messages %}USER {% for part in message.content %}"
    "{% if part.type == 'image' %}<image> {% else %}{{ part.text }} {% endif %}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT {% endif %}"
)


def save_tiny_llava(folder: Path, *, says: str | None = None, seed: int = 0) -> Path:
    """LLaVA with CLIP's and Llama's classes; `says` makes it answer this word always, with equal logits for all."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["yes", "no", "perhaps", "<unk>", "<pad>", "<s>", "</s>", "<image>", "USER", "ASSISTANT", "chair", "red"]
    if says is not None:  # the first of equal logits is chosen
        words = [says, *(word for word in words if word != says)]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **special, additional_special_tokens=["<image>"]
    )
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = transformers.LlamaConfig(
        **sizes, vocab_size=len(words), num_key_value_heads=2, max_position_embeddings=512,
        bos_token_id=words.index("<s>"), eos_token_id=words.index("</s>"), pad_token_id=words.index("<pad>"),
    )  # fmt: skip
    vision = transformers.CLIPVisionConfig(**sizes, image_size=32, patch_size=8, projection_dim=16)
    torch.manual_seed(seed)
    model = transformers.LlavaForConditionalGeneration(
        transformers.LlavaConfig(
            vision_config=vision, text_config=text, image_token_index=words.index("<image>"), vision_feature_layer=-1
        )
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    if says is not None:
        torch.nn.init.zeros_(model.lm_head.weight)
    model.save_pretrained(folder)
    pixels = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = transformers.LlavaProcessor(
        image_processor=pixels, tokenizer=fast, patch_size=8, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=TEMPLATE,
    )  # fmt: skip
    processor.save_pretrained(folder)
    return folder
