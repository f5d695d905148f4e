"""Device profiles: what a target can run and how it is reached. One YAML file a device, in `devices/`.

Every figure carries its source; one that nobody measured or published is left out, never guessed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgetf.core.errors import ConfigError, near_match
from edgetf.core.files import is_file, read_yaml
from edgetf.core.places import shipped
from edgetf.core.problems import explain

Runtime = Literal["ort", "litert"]
Format = Literal["onnx", "tflite"]
Scheme = Literal["fp32", "w8a8_dynamic"]

RUNTIME_OF: dict[Format, Runtime] = {"onnx": "ort", "tflite": "litert"}

# Which scheme each runtime computes with its own kernels, by format. What is not here is refused at plan time.
RUNS: dict[Runtime, dict[Format, tuple[Scheme, ...]]] = {
    "ort": {"onnx": ("fp32", "w8a8_dynamic")},
    "litert": {"tflite": ("fp32", "w8a8_dynamic")},
}


class Strict(BaseModel):
    """A frozen model that refuses unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Fact(Strict):
    """A figure of a device with its unit and its source (a document, or "measured")."""

    value: float
    unit: str
    source: Annotated[str, Field(min_length=3)]


class DeviceProfile(Strict):
    """One device."""

    name: str
    description: str
    target: Annotated[Literal["local", "none"], Field(description="how it is reached: this machine, or not from here")]
    architecture: Literal["x86_64", "aarch64", "any"]
    runtimes: Annotated[tuple[Runtime, ...], Field(min_length=1)]
    threads: Annotated[int, Field(ge=1, description="threads that one inference uses")] = 1
    instructions: tuple[str, ...] = ()
    python: tuple[str, ...] = ()
    facts: dict[str, Fact] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def refuses(self, model_format: Format, scheme: str) -> str | None:
        """Why a variant cannot run here, or None."""
        runtime = RUNTIME_OF[model_format]
        if runtime not in self.runtimes:
            return f"needs {runtime}, {self.name} has {', '.join(self.runtimes)}"
        allowed = RUNS[runtime].get(model_format, ())
        if scheme not in allowed:
            return f"{scheme} is not run by {runtime}; allowed: {', '.join(allowed)}"
        return None


def device_names() -> list[str]:
    """Every profile that is installed."""
    return sorted(path.stem for path in shipped("devices").glob("*.yaml"))


def load_device(name: str) -> DeviceProfile:
    """Read a profile by name, or from a path that ends in .yaml.

    Raises:
        ConfigError: unknown name, or a file that does not fit the schema.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else shipped("devices") / f"{name}.yaml"
    if not is_file(path):
        raise ConfigError(f"device {name}: no such profile{near_match(name, device_names())}")
    try:
        profile = DeviceProfile.model_validate(read_yaml(path))
    except ValidationError as error:
        raise ConfigError(explain(error, DeviceProfile, place=f"{path.name}: ")) from None
    if profile.name != path.stem:
        raise ConfigError(f"{path.name}: name: got {profile.name}, allowed: {path.stem}, as the file is called")
    return profile
