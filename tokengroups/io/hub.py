"""Files from the Hugging Face hub: from its cache, else downloaded, without a long wait where there is no network."""

from __future__ import annotations

import socket
from pathlib import Path

from tokengroups.errors import UserError
from tokengroups.reading import shown

HUB = ("huggingface.co", 443)
PATIENCE_S = 3.0
# Weights in a repository, whole or in shards, and a weight folder of ours with the encoder beside it.
WEIGHT_FILES = ("model*.safetensors", "model.safetensors.index.json", "config.json", "encoder/*")


def is_hub_id(source: str) -> bool:
    """True for ``owner/name``, false for paths."""
    return source.count("/") == 1 and not source.startswith((".", "/", "~"))


def not_typed(kind: str, hub_id: str, cure: str) -> UserError:
    """Error for a hub id that a file names: only what the user types decides whom this machine contacts."""
    return UserError(
        f"a file asks for the {kind} '{shown(hub_id)}' of the model hub, which is used only if you name it yourself: "
        f"pass {cure}"
    )


def cached_folder(hub_id: str) -> Path | None:
    """Folder of a repository in the hub's cache; None if nothing of it is there. Asks no network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return None


def hub_folder(hub_id: str, patterns: list[str]) -> Path:
    """Folder with the files of a repository that match the patterns.

    The cache is used only if it holds a file that matches the first pattern.

    Raises:
        UserError: No such repository, not cached and no network, or the download failed.
    """
    # Imported here: local files need neither the library nor a network.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        cached = Path(snapshot_download(hub_id, allow_patterns=patterns, local_files_only=True))
        if any(cached.glob(patterns[0])):
            return cached
    except HFValidationError as error:
        raise UserError(f"'{shown(hub_id)}' is no hub id: {shown(str(error).splitlines()[0])}") from None
    except LocalEntryNotFoundError:
        pass
    try:  # the hub's own client would try for minutes
        socket.create_connection(HUB, timeout=PATIENCE_S).close()
    except OSError:
        raise UserError(
            f"'{hub_id}' is not in the hub's cache and {HUB[0]} cannot be reached; give a local folder"
        ) from None
    try:
        return Path(snapshot_download(hub_id, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"cannot download '{hub_id}': {reason}; check the id, or give a local folder") from error
