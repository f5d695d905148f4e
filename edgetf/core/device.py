"""Device profiles: what a target can run and how it is reached. One YAML file a device, in `devices/`.

A profile of the user's own, as `edgetf devices add` writes it, stands in `own_devices()` and comes before a shipped one
of the same name. What the hardware is, figure by figure with its source, is in `edgetf/core/hardware.py`.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from edgetf.core.errors import ConfigError, near_match
from edgetf.core.files import is_file, read_yaml
from edgetf.core.hardware import Hardware
from edgetf.core.places import own_devices, shipped
from edgetf.core.problems import explain
from edgetf.core.reach import Adb, Emulated, Ssh, TargetKind
from edgetf.core.schemes import Granularity, Kind, Runtime, Scheme, Signedness
from edgetf.core.support import RUNTIMES_OF, SUPPORT, Support


class DeviceProfile(Hardware):
    """One device."""

    name: str
    description: str
    target: Annotated[TargetKind, Field(description="how it is reached")]
    ssh: Ssh | None = None
    adb: Adb | None = None
    emulated: Emulated | None = None
    architecture: Literal["x86_64", "aarch64", "any"]
    runtimes: Annotated[tuple[Runtime, ...], Field(min_length=1)]
    provider: Annotated[
        str | None, Field(description="execution provider or delegate to ask for; null: the usual one on a CPU")
    ] = None
    threads: Annotated[int, Field(ge=1, description="threads that one inference uses")] = 1
    python: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _says_how_it_is_reached(self) -> DeviceProfile:
        """A target that needs a section has it, and no section is there for another target."""
        sections = {"ssh": self.ssh, "adb": self.adb, "emulated": self.emulated}
        for kind, section in sections.items():
            if (section is not None) != (self.target == kind):
                word = "missing" if section is None else "not for this target"
                raise ValueError(f"{kind}: {word}; target is {self.target}")
        return self

    @property
    def here(self) -> bool:
        """Whether it is the machine that runs edgetf."""
        return self.target == "local"

    @property
    def has_tensorrt(self) -> bool:
        """Whether TensorRT runs there, by itself or as a provider of ONNX Runtime."""
        return "tensorrt" in self.runtimes or "TensorrtExecutionProvider" in self.providers

    def runtime_of(self, kind: Kind, scheme: Scheme = "fp32") -> Runtime | None:
        """The runtime that runs such a file here, or None."""
        found = (r for r in RUNTIMES_OF[kind] if r in self.runtimes)
        return next((runtime for runtime in found if self._refusal(runtime, scheme) is None), None)

    def support(self, kind: Kind, scheme: Scheme) -> Support | None:
        """How a scheme is run here, or None where it is refused."""
        runtime = self.runtime_of(kind, scheme)
        return None if runtime is None else SUPPORT[runtime][scheme]

    def refuses(self, kind: Kind, scheme: Scheme, granularity: Granularity | None = None) -> str | None:
        """Why a variant cannot run here, or None."""
        runtimes = [runtime for runtime in RUNTIMES_OF[kind] if runtime in self.runtimes]
        if not runtimes:
            return f"needs {' or '.join(RUNTIMES_OF[kind])}, {self.name} has {', '.join(self.runtimes)}"
        reasons = [self._refusal(runtime, scheme, granularity) for runtime in runtimes]
        return None if None in reasons else reasons[-1]

    def _refusal(self, runtime: Runtime, scheme: Scheme, granularity: Granularity | None = None) -> str | None:
        """Why a runtime of this device does not run a scheme, or None."""
        found = SUPPORT[runtime].get(scheme)
        if found is None:
            return f"{scheme} is not run by {runtime}; allowed: {', '.join(SUPPORT[runtime])}"
        if found.how == "simulated" and not self.here:
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

        x86 multiplies unsigned by signed bytes (AVX2, VNNI); Arm signed by signed ones; TensorRT takes symmetric only.
        """
        if self.runtimes == ("tensorrt",) or self.provider == "TensorrtExecutionProvider":
            return "symmetric"
        machine = platform.machine().lower() if self.architecture == "any" else self.architecture
        return "signed" if machine in ("aarch64", "arm64") else "unsigned"


def device_names() -> list[str]:
    """Every profile that is shipped, or that the user wrote."""
    return sorted({path.stem for folder in (own_devices(), shipped("devices")) for path in folder.glob("*.yaml")})


def load_device(name: str) -> DeviceProfile:
    """Read a profile by name, or from a path that ends in .yaml.

    Raises:
        ConfigError: unknown name, or a file that does not fit the schema.
    """
    own = own_devices() / f"{name}.yaml"
    named = own if is_file(own) else shipped("devices") / f"{name}.yaml"
    path = Path(name) if name.endswith((".yaml", ".yml")) else named
    if not is_file(path):
        raise ConfigError(f"device {name}: no such profile{near_match(name, device_names())}")
    try:
        profile = DeviceProfile.model_validate(read_yaml(path))
    except ValidationError as error:
        raise ConfigError(explain(error, DeviceProfile, place=f"{path.name}: ")) from None
    if profile.name != path.stem:
        raise ConfigError(f"{path.name}: name: got {profile.name}, allowed: {path.stem}, as the file is called")
    return profile
