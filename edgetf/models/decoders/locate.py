"""Find a decoder that is there: a folder, hub:OWNER/NAME or package:, of a known family, without a pickle."""

from __future__ import annotations

from pathlib import Path

from edgetf.core.errors import ArtifactError
from edgetf.data.locate import hub_snapshot, is_hub, package_path
from edgetf.models.checkpoint import WEIGHTS
from edgetf.models.decoders.configs import known_config

SHARDS = "model.safetensors.index.json"
_CONFIGS = ("config.json", "generation_config.json")
_HUB_FILES = ("*.json", "*.txt", "*.jinja", "*.safetensors")
_WAY = "convert it where you trust it: AutoModelForCausalLM.from_pretrained(…).save_pretrained(…)"


def locate_decoder(source: str, revision: str | None = None, config_only: bool = False) -> Path:
    """The local folder of a decoder; with `config_only` its weights are neither fetched nor asked for.

    Raises:
        ArtifactError: there is none, its family is not known here, or it holds only a pickle.
        DeviceError: the package behind it is not installed.
    """
    if source.startswith("package:"):
        folder = package_path(source)
    elif is_hub(source):
        folder = hub_snapshot(source, "model", _CONFIGS if config_only else _HUB_FILES, revision)
    else:
        folder = Path(source).expanduser()
        if not folder.is_dir():
            raise ArtifactError(
                f"teacher.source: {source} is not a folder; give a folder, hub:OWNER/NAME, package: or a .gguf file"
            )
    if not (folder / "config.json").is_file():
        raise ArtifactError(f"teacher.source: {folder} has no config.json; give the folder of a Hugging Face model")
    known_config(folder)
    if not config_only and not any((folder / name).is_file() for name in (WEIGHTS, SHARDS)):
        raise ArtifactError(f"teacher.source: {source} has no {WEIGHTS}, and a pickle can run code; {_WAY}")
    return folder
