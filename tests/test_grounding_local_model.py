"""A vision-language model by folder: LLaVA's real classes, tiny and random; no network."""

from __future__ import annotations

import builtins
import json
import socket
from pathlib import Path

import pytest
import torch

from tokengroups import example_scene
from tokengroups.compat import prepare_torchvision
from tokengroups.errors import UserError
from tokengroups.grounding import Answerer, Question, ScenePictures, ground
from tokengroups.grounding.local_model import LocalModel

prepare_torchvision()  # before any model of transformers, whatever the order of the tests
transformers = pytest.importorskip("transformers")
from tiny_vlm import save_tiny_llava  # noqa: E402

QUESTION = Question("the red chair", 1, 2)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_tiny_llava(tmp_path_factory.mktemp("vlm") / "random")


@pytest.mark.parametrize(
    ("says", "yes", "malformed"), [("yes", True, False), ("no", False, False), ("perhaps", False, True)]
)
def test_the_words_of_the_model_are_the_answer(tmp_path: Path, says: str, yes: bool, malformed: bool):
    model = LocalModel(save_tiny_llava(tmp_path, says=says))
    assert isinstance(model, Answerer)
    answer = model.ask([torch.rand(40, 60, 3), torch.rand(40, 60, 3)], QUESTION)
    assert (answer.yes, answer.malformed) == (yes, malformed) and answer.text.startswith(says)
    assert answer.probability == (None if malformed else pytest.approx(0.5))  # its logits are all equal


@pytest.mark.parametrize("seed", [1, 7])  # random models whose first word is yes, and no
def test_a_random_model_answers_as_by_itself(tmp_path: Path, seed: int):
    """Against transformers' own way from chat to words, with pictures in the chat."""
    from PIL import Image

    folder = save_tiny_llava(tmp_path, seed=seed)
    torch.manual_seed(0)
    pictures = [torch.rand(40, 60, 3), torch.rand(40, 60, 3)]
    answer = LocalModel(folder).ask(pictures, QUESTION)
    processor = transformers.AutoProcessor.from_pretrained(folder)
    reference = transformers.AutoModelForImageTextToText.from_pretrained(folder).eval()
    images = [Image.fromarray((picture * 255).round().byte().numpy()) for picture in pictures]
    content = [*({"type": "image", "image": image} for image in images), {"type": "text", "text": QUESTION.text}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True, return_dict=True,
        return_tensors="pt",
    )  # fmt: skip
    with torch.no_grad():
        probabilities = reference(**inputs).logits[0, -1].softmax(dim=0)
        tokens = reference.generate(**inputs, do_sample=False, max_new_tokens=8)
        exchanged = reference(**{**inputs, "pixel_values": inputs["pixel_values"].flip(0)}).logits[0, -1].softmax(dim=0)
    assert answer.text == processor.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert not answer.malformed and answer.yes == (answer.text.split()[0] == "yes")
    yes, no = (processor.tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no"))
    expected = float(probabilities[yes] / (probabilities[yes] + probabilities[no]))
    assert answer.probability == pytest.approx(expected, abs=1e-5)
    assert not torch.allclose(exchanged, probabilities)  # the pictures matter to this model


def test_every_group_is_asked_about(tmp_path: Path):
    scene = example_scene()
    model = LocalModel(save_tiny_llava(tmp_path, says="yes"))
    result = ground(scene, "the ball", model, ScenePictures(scene, size=64))
    assert result.ids == (1, 2, 3) and all(group.probability == pytest.approx(0.5) for group in result.groups)


def refused(folder: object) -> str:
    with pytest.raises(UserError) as caught:
        LocalModel(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_folders_of_something_else_are_one_line(tmp_path: Path, folder: Path, monkeypatch):
    assert "no such folder" in refused(tmp_path / "none")
    assert "no such folder" in refused("owner/name")  # nothing is downloaded
    assert "cannot be loaded" in refused(tmp_path)
    for name, content in {"config.json": "{", "model.safetensors": "damaged", "tokenizer.json": "[1, 2]"}.items():
        copy = tmp_path / name.partition(".")[0]
        copy.mkdir()
        for file in folder.iterdir():
            (copy / file.name).write_bytes(file.read_bytes())
        (copy / name).write_text(content)
        assert "cannot be loaded" in refused(copy)
    clip = tmp_path / "clip"
    transformers.CLIPTextConfig(hidden_size=8, num_attention_heads=2).save_pretrained(clip)
    assert "cannot be loaded" in refused(clip)
    real_import = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "transformers":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "pip install 'tokengroups[text]'" in refused(folder)


def copied(folder: Path, target: Path) -> Path:
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def test_missing_weights_and_chat_templates_are_one_line(tmp_path: Path, folder: Path):
    from safetensors.torch import load_file, save_file

    lacking = copied(folder, tmp_path / "lacking")
    tensors = load_file(lacking / "model.safetensors")
    tensors.pop(next(name for name in tensors if "q_proj" in name))
    save_file(tensors, lacking / "model.safetensors", {"format": "pt"})
    assert "weights are missing" in refused(lacking)
    silent = copied(folder, tmp_path / "silent")
    (silent / "chat_template.jinja").unlink()
    assert "no chat template" in refused(silent)
    broken = copied(folder, tmp_path / "broken")
    (broken / "chat_template.jinja").write_text("{{ messages[7].content }}")
    with pytest.raises(UserError, match="cannot answer"):
        LocalModel(broken).ask([torch.rand(40, 60, 3)], QUESTION)


def test_a_folder_runs_no_code(tmp_path: Path, folder: Path):
    evil = copied(folder, tmp_path / "evil")
    (evil / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Model: ...\nclass Config: ...\n")
    config = json.loads((evil / "config.json").read_text())
    config |= {
        "model_type": "evil",
        "auto_map": {"AutoConfig": "evil.Config", "AutoModelForImageTextToText": "evil.Model"},
    }
    (evil / "config.json").write_text(json.dumps(config))
    assert "cannot be loaded" in refused(evil)
    pickled = copied(folder, tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    torch.save({"x": torch.zeros(1)}, pickled / "pytorch_model.bin")
    assert "cannot be loaded" in refused(pickled)
    assert not (tmp_path / "ran").exists()
