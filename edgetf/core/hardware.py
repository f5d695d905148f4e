"""What a device is made of. Every figure carries its source; one that nobody measured or published is left out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgetf.core.strict import Strict

Source = Annotated[str, Field(min_length=3, description='a document, or "measured" with the tool, date and conditions')]
Dtype = Literal["fp64", "fp32", "fp16", "bf16", "int8", "int4", "fp8_e4m3", "nvfp4"]


class Fact(Strict):
    """A figure of a device with its unit and its source."""

    value: float
    unit: str
    source: Source


class Cores(Strict):
    """Cores of one kind."""

    model: Annotated[str, Field(description="e.g. Cortex-A76")]
    count: Annotated[int, Field(ge=1)]
    clock_mhz: Annotated[float | None, Field(gt=0, description="highest clock it is sold with")] = None
    source: Source


class Cache(Strict):
    """One level of cache."""

    level: Literal["L1d", "L1i", "L2", "L3", "system"]
    kib: Annotated[float, Field(gt=0)]
    shared_by: Annotated[str, Field(description="core, cluster or all")] = "core"
    source: Source


class Memory(Strict):
    """Main memory, or that of a GPU."""

    kind: Annotated[str | None, Field(description="e.g. LPDDR4X")] = None
    sizes_gib: Annotated[tuple[float, ...], Field(description="the sizes it is sold with")] = ()
    peak_gb_per_s: Annotated[float | None, Field(gt=0, description="by its data sheet")] = None
    source: Source


class DecodeBandwidth(Strict):
    """Bytes of weights a second that decoders were seen to read there: model bytes times published tokens a second."""

    low_gb_per_s: Annotated[float, Field(gt=0, description="of the slowest model seen")]
    high_gb_per_s: Annotated[float, Field(gt=0, description="of the fastest model seen")]
    unit: Annotated[Literal["cpu", "gpu", "npu"], Field(description="what computed")] = "cpu"
    source: Source

    @model_validator(mode="after")
    def _ascends(self) -> DecodeBandwidth:
        if self.low_gb_per_s > self.high_gb_per_s:
            raise ValueError(f"low_gb_per_s {self.low_gb_per_s:g} is above high_gb_per_s {self.high_gb_per_s:g}")
        return self


class Throughput(Strict):
    """Arithmetic a second: `peak` by a data sheet, `sustained` as a benchmark measured it."""

    dtype: Dtype
    kind: Literal["peak", "sustained"]
    giga_ops_per_s: Annotated[float, Field(gt=0, description="10^9 a second; multiply-add counts as two")]
    unit: Annotated[Literal["cpu", "gpu", "npu"], Field(description="what computes")] = "cpu"
    threads: Annotated[int | None, Field(ge=1)] = None
    source: Source


class PowerMode(Strict):
    """A power mode and the command that sets it."""

    name: str
    watts: Annotated[float | None, Field(gt=0)] = None
    command: str | None = None
    source: Source


class Wheel(Strict):
    """A package whose wheels run there."""

    package: str
    tag: Annotated[str, Field(description="platform tag, e.g. manylinux_2_28_aarch64")]
    source: Source


class Hardware(Strict):
    """The hardware part of a profile; an empty list says that nothing is known, not that there is none."""

    instructions: tuple[str, ...] = ()
    cores: tuple[Cores, ...] = ()
    caches: tuple[Cache, ...] = ()
    memory: Memory | None = None
    decode_bandwidth: DecodeBandwidth | None = None
    throughput: tuple[Throughput, ...] = ()
    dtypes: Annotated[tuple[Dtype, ...], Field(description="types that it has arithmetic for")] = ()
    providers: Annotated[tuple[str, ...], Field(description="execution providers and delegates there are for it")] = ()
    power_modes: tuple[PowerMode, ...] = ()
    wheels: tuple[Wheel, ...] = ()
    facts: Annotated[dict[str, Fact], Field(description="other figures, such as published benchmarks")] = Field(
        default_factory=dict
    )
