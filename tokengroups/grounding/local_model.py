"""A vision-language model in a local folder, through transformers (extra ``text``)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.compat import prepare_torchvision
from tokengroups.errors import UserError
from tokengroups.grounding.answers import Answer, Question, parse_answer
from tokengroups.reading import path_kind, shown

_INSTALL = "install it with: pip install 'tokengroups[text]'"
_WANTED = "give a folder of an image-text-to-text model with a chat template, in transformers' layout"
_LOCAL = {"local_files_only": True, "trust_remote_code": False}  # a folder runs no code and contacts nobody
_LONGEST_ANSWER = 8  # tokens
_YES, _NO = ("yes", "Yes", "YES", " yes", " Yes"), ("no", "No", "NO", " no", " No")


class LocalModel:
    """An image-text-to-text model, such as SmolVLM, Qwen2.5-VL or LLaVA. It answers greedily.

    The probability is that of the first tokens of yes, divided by those of yes and no.

    Args:
        folder: Weights, tokenizer, image processor and chat template in transformers' layout; safetensors only.
        device: cpu or cuda.

    Raises:
        UserError: transformers is missing, or the folder has no complete model of this kind.
    """

    looks = True

    def __init__(self, folder: str | Path, device: str = "cpu") -> None:
        self.folder = Path(folder)
        if path_kind(self.folder) != "folder":
            raise UserError(f"--model {shown(folder)}: there is no such folder; {_WANTED}")
        prepare_torchvision()
        try:
            import transformers
        except ImportError:
            raise UserError(f"a local model needs the package transformers; {_INSTALL}") from None
        with self._failures("cannot be loaded"):
            self.processor = transformers.AutoProcessor.from_pretrained(self.folder, **_LOCAL)
            options = {**_LOCAL, "use_safetensors": True, "dtype": "auto", "output_loading_info": True}
            loaded: Any = transformers.AutoModelForImageTextToText.from_pretrained(self.folder, **options)
            model, report = loaded
        if report["missing_keys"] or report["mismatched_keys"]:
            raise UserError(f"{shown(folder)}: weights are missing, or have other shapes than it says; {_WANTED}")
        if not getattr(self.processor, "chat_template", None):
            raise UserError(f"{shown(folder)}: it has no chat template, so it may be no model for chats; {_WANTED}")
        self.model = model.to(device).eval()
        self.yes, self.no = self._first_tokens(_YES), self._first_tokens(_NO)

    @torch.inference_mode()
    def ask(self, images: Sequence[Float[Tensor, "H W 3"]], question: Question) -> Answer:
        """Answer a question about pictures (see `Answerer`)."""
        content = [*({"type": "image"} for _ in images), {"type": "text", "text": question.text}]
        pixels = [image.clamp(0, 1).mul(255).round().byte().numpy(force=True) for image in images]
        with self._failures("cannot answer"):
            prompt = self.processor.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
            )
            inputs = self.processor(text=[prompt], images=pixels, return_tensors="pt").to(self.model.device)
            inputs = inputs.to(self.model.dtype)
            out = self.model.generate(
                **inputs,
                do_sample=False,
                num_beams=1,
                max_new_tokens=_LONGEST_ANSWER,
                output_logits=True,
                return_dict_in_generate=True,
            )
            answer = out.sequences[:, inputs["input_ids"].shape[1] :]
            (text,) = self.processor.batch_decode(answer, skip_special_tokens=True)
        return parse_answer(text, self._probability(out.logits[0][0].float()))

    def _probability(self, logits: Float[Tensor, " T"]) -> float | None:
        if not self.yes or not self.no or not bool(logits.isfinite().any()):
            return None
        yes, no = logits[self.yes].logsumexp(dim=0), logits[self.no].logsumexp(dim=0)
        return float(torch.sigmoid(yes - no))

    def _first_tokens(self, words: Sequence[str]) -> list[int]:
        """Tokens that are one of the words."""
        tokenizer = self.processor.tokenizer
        tokens = (tokenizer.encode(word, add_special_tokens=False) for word in words)
        return sorted({found[0] for found in tokens if len(found) == 1 and found[0] != tokenizer.unk_token_id})

    @contextlib.contextmanager
    def _failures(self, what: str) -> Iterator[None]:
        """Context without messages of transformers; what it raises for damaged or foreign folders becomes one line."""
        try:
            with _quiet():
                yield
        except (UserError, MemoryError):
            raise
        except Exception as error:
            if "out of memory" in str(error) or "can't allocate memory" in str(error):
                raise
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UserError(f"the model in {shown(self.folder)} {what} ({shown(reason)}); {_WANTED}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Context without transformers' bars and warnings."""
    from transformers.utils import logging as log

    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
