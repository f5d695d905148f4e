"""Device profiles: what a target can run and how it is reached. One YAML file a device, in `devices/`.

Every figure carries its source; one that nobody measured or published is left out, never guessed.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgetf.core.errors import ConfigError, near_match
from edgetf.core.files import is_file, read_yaml
from edgetf.core.places import shipped
from edgetf.core.problems import explain
from edgetf.core.schemes import Format, Granularity, Runtime, Scheme, Signedness
from edgetf.core.support import RUNTIMES_OF, SUPPORT, Support


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

    def runtime_of(self, model_format: Format, scheme: Scheme = "fp32") -> Runtime | None:
        """The runtime that runs such a file here, or None."""
        found = (r for r in RUNTIMES_OF[model_format] if r in self.runtimes)
        return next((runtime for runtime in found if self._refusal(runtime, scheme) is None), None)

    def support(self, model_format: Format, scheme: Scheme) -> Support | None:
        """How a scheme is run here, or None where it is refused."""
        runtime = self.runtime_of(model_format, scheme)
        return None if runtime is None else SUPPORT[runtime][scheme]

    def refuses(self, model_format: Format, scheme: Scheme, granularity: Granularity | None = None) -> str | None:
        """Why a variant cannot run here, or None."""
        runtimes = [runtime for runtime in RUNTIMES_OF[model_format] if runtime in self.runtimes]
        if not runtimes:
            return f"needs {' or '.join(RUNTIMES_OF[model_format])}, {self.name} has {', '.join(self.runtimes)}"
        reasons = [self._refusal(runtime, scheme, granularity) for runtime in runtimes]
        return None if None in reasons else reasons[-1]

    def _refusal(self, runtime: Runtime, scheme: Scheme, granularity: Granularity | None = None) -> str | None:
        """Why a runtime of this device does not run a scheme, or None."""
        found = SUPPORT[runtime].get(scheme)
        if found is None:
            return f"{scheme} is not run by {runtime}; allowed: {', '.join(SUPPORT[runtime])}"
        if found.how == "simulated" and self.target != "local":
            return f"{scheme} has no hardware on {self.name}, where {runtime} would compute it in float"
        capability = self.facts["compute_capability"].value if "compute_capability" in self.facts else 0.0
        if found.capability > capability:
            has = f"{capability:g}" if capability else "none that is known"
            return f"{scheme} needs compute capability {found.capability:g}, {self.name} has {has}"
        if found.granularity and granularity and found.granularity != granularity:
            return f"{runtime} gives wrong answers for {scheme} {granularity}; allowed: {found.granularity}"
        return None

    @property
    def activations(self) -> Signedness:
        """The sign of INT8 activations that its kernels are fast with, beside signed weights.

        x86 multiplies unsigned by signed bytes (AVX2, VNNI); Arm signed by signed ones.
        """
        machine = platform.machine().lower() if self.architecture == "any" else self.architecture
        return "signed" if machine in ("aarch64", "arm64") else "unsigned"


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
