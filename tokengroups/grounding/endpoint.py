"""A vision-language model behind an OpenAI-compatible address: vLLM, llama.cpp, Ollama and hosted ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.grounding.answers import Answer, Question, parse_answer
from tokengroups.grounding.http import JsonPoster, Limits, NotAnswered, Refused, WrongForm, check_address
from tokengroups.io.data_urls import jpeg_url
from tokengroups.reading import read_text, shown

KEY_VARIABLE = "TOKENGROUPS_API_KEY"
_PATH = "/chat/completions"
_OPTIONAL = {"temperature": 0, "max_tokens": 16}  # some models refuse one of these
_LONGEST_KEY = 8192  # characters
_KEY_ADVICE = f"check the variable {KEY_VARIABLE}, --key-env or --key-file"


class Endpoint:
    """A model that is asked by ``POST {url}/chat/completions``, with pictures as JPEG in the message.

    Until the endpoint has answered once, whatever is wrong ends the work. Later a response of the wrong form is a
    malformed answer, which counts as no.

    Args:
        url: Base address, such as ``http://127.0.0.1:8000/v1``.
        model: Name of the model there.
        key: Secret for the header ``Authorization``; None = none is sent. It is in no message and no answer.
        limits: Of time and traffic.

    Raises:
        UserError: The address is none.
    """

    looks = True

    def __init__(self, url: str, model: str, key: str | None = None, limits: Limits | None = None) -> None:
        address = check_address(url)
        self.url, self.model = address, model
        full = address if address.endswith(_PATH) else address + _PATH
        self._poster = JsonPoster(full, key, limits or Limits())
        self._options: dict[str, Any] = dict(_OPTIONAL)
        self._answered = False

    def ask(self, images: Sequence[Float[Tensor, "H W 3"]], question: Question) -> Answer:
        """Answer a question about pictures (see `Answerer`)."""
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": _data_url(each)}} for each in images
        ]
        content.append({"type": "text", "text": question.text})
        try:
            text = _text_of(self._post([{"role": "user", "content": content}]))
        except NotAnswered as error:
            raise self._error(str(error)) from None
        except Refused as error:
            raise self._error(f"{error}; {_advice(error.status)}") from None
        except WrongForm as error:
            if not self._answered:
                raise self._error(f"{self._poster.visible(str(error))}; is it OpenAI-compatible?") from None
            return Answer(False, text=self._poster.visible(str(error)), malformed=True)
        self._answered = True
        return parse_answer(self._poster.visible(text))

    def _post(self, messages: list[dict[str, Any]]) -> Any:
        """Post a chat; settings that the endpoint refuses by name are left out from then on."""
        while True:
            try:
                return self._poster.post({"model": self.model, "messages": messages, **self._options})
            except Refused as error:
                named = [name for name in self._options if name in error.body]
                if error.status not in (400, 422) or not named:
                    raise
                for name in named:
                    del self._options[name]

    def _error(self, reason: str) -> UserError:
        return UserError(f"the endpoint {shown(self.url)}: {reason}")


def read_key(variable: str | None, file: str | Path | None) -> str | None:
    """The key for an endpoint from an environment variable or a file; None = there is none.

    Args:
        variable: Name of the variable; None = `KEY_VARIABLE`, if that is set.
        file: File that holds the key and nothing else.

    Raises:
        UserError: The variable is not set, the file unreadable, or its content no key. The line does not hold it.
    """
    if file is not None:
        key, source = read_text(file, _KEY_ADVICE, limit=2**20).strip(), f"the file {shown(file)}"
    else:
        name = variable or KEY_VARIABLE
        key, source = os.environ.get(name, "").strip(), f"the variable {shown(name)}"
        if not key and variable is None:
            return None
    if not key or len(key) > _LONGEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise UserError(f"{source} holds no key; {_KEY_ADVICE}")
    return key


def _advice(status: int) -> str:
    """What to do about an error status."""
    if status in (401, 403):
        return f"it wants another key; {_KEY_ADVICE}"
    return "check --endpoint and --model" if status == 404 else "check that the model takes pictures"


def _data_url(image: Float[Tensor, "H W 3"]) -> str:
    pixels = image.clamp(0, 1).mul(255).round().byte().numpy(force=True)
    return jpeg_url(pixels)


def _text_of(response: Any) -> str:
    """The model's words in a chat completion; a message without words is empty."""
    try:
        text = response["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        raise WrongForm(f"a response without choices[0].message.content: {shown(response)}") from None
    if isinstance(text, list):  # parts, as some servers send them
        words = [part.get("text") for part in text if isinstance(part, dict)]
        text = "".join(each for each in words if isinstance(each, str))
    if text is not None and not isinstance(text, str):
        raise WrongForm(f"content that is no text: {shown(text)}")
    return text or ""
