"""The laws of the shipped profiles: each figure has a source, and no two figures of a device contradict each other."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from edgetf.commands.lists import devices_command, profile_text
from edgetf.core.device import DeviceProfile, load_device
from edgetf.core.hardware import Cache, Cores, Fact, Memory, PowerMode, Throughput, Wheel
from edgetf.core.places import shipped
from edgetf.core.reach import Adb, Emulated, Ssh

NAMES = sorted(path.stem for path in shipped("devices").glob("*.yaml"))
PROFILES = [pytest.param(load_device(str(shipped("devices") / f"{name}.yaml")), id=name) for name in NAMES]
REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "devices" / "README.md").read_text(encoding="utf-8")

MEASURED = re.compile(r"^measured: \w+.*\d{4}-\d\d-\d\d")
DOCUMENT = re.compile(
    r"[\w.-]+/[\w./-]+"  # a repository, or a page of a site
    r"|\w+\.(com|it|org|net)\b"
    r"|\b(documentation|data sheet|guide|blog|wiki|product page|technical brief|specification|release notes)\b"
    r"|\bgist [0-9a-f]{8}\b"
)
X86 = re.compile(r"^(sse|avx|amx|fma|vnni)")
ARM = re.compile(r"^(asimd|sve|fphp|i8mm|bf16|crc32|fp$)")
NO_DOT_PRODUCT = {"Cortex-A53", "Cortex-A57", "Cortex-A72"}
PROVIDERS = {
    "CPUExecutionProvider",
    "CUDAExecutionProvider",
    "TensorrtExecutionProvider",
    "XnnpackExecutionProvider",
    "NnapiExecutionProvider",
    "QNNExecutionProvider",
    "CoreMLExecutionProvider",
    "LiteRT XNNPACK",
    "LiteRT GPU",
}


def sources(document: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every `source` below a document, with where it stands."""
    match document:
        case dict():
            for key, value in document.items():
                yield from [(place, value)] if key == "source" else sources(value, f"{place}.{key}")
        case list():
            for value in document:
                yield from sources(value, place)


@pytest.mark.parametrize(
    ("source", "good"),
    [
        ("measured: pip download, 2026-11-26", True),
        ("google/XNNPACK README.md", True),
        ("NVIDIA, CUDA programming guide", True),
        ("measured", False),
        ("remembered", False),
        ("as everybody knows", False),
    ],
)
def test_the_form_of_a_source(source: str, good: bool) -> None:
    assert is_source(source) == good


def is_source(text: str) -> bool:
    """Whether it names a document, or who measured with what and when."""
    return bool((MEASURED if text.startswith("measured") else DOCUMENT).search(text))


@pytest.mark.parametrize("profile", PROFILES)
class TestEveryShippedProfile:
    def test_names_a_document_or_a_measurement_for_each_figure(self, profile: DeviceProfile) -> None:
        assert [each for each in sources(profile.model_dump(mode="json")) if not is_source(each[1])] == []

    def test_says_in_a_note_where_its_lists_come_from(self, profile: DeviceProfile) -> None:
        """Instructions, dtypes and providers are words, which have no field for a source."""
        for field in ("instructions", "dtypes", "providers"):
            if getattr(profile, field):
                assert any(note.startswith(f"{field.capitalize()}: ") for note in profile.notes), field

    def test_says_that_it_was_not_measured_by_us(self, profile: DeviceProfile) -> None:
        if profile.target == "none":
            assert any(note.startswith("Not run by us") for note in profile.notes)

    def test_is_plausible(self, profile: DeviceProfile) -> None:
        for cores in profile.cores:
            assert cores.count <= 64
            assert cores.clock_mhz is None or 100 <= cores.clock_mhz <= 6000
        if profile.memory is not None:
            assert list(profile.memory.sizes_gib) == sorted(set(profile.memory.sizes_gib))
            assert all(0 < size <= 1024 for size in profile.memory.sizes_gib)
        for cache in profile.caches:
            assert 4 <= cache.kib <= 1024 * 1024

    def test_sustains_no_more_than_its_peak(self, profile: DeviceProfile) -> None:
        for peak, sustained in product(profile.throughput, repeat=2):
            same = (peak.dtype, peak.unit) == (sustained.dtype, sustained.unit)
            if same and (peak.kind, sustained.kind) == ("peak", "sustained"):
                assert sustained.giga_ops_per_s <= peak.giga_ops_per_s

    def test_copies_no_faster_than_its_memory(self, profile: DeviceProfile) -> None:
        peak = profile.memory.peak_gb_per_s if profile.memory else None
        for name in {"memcpy", "memset"} & set(profile.facts):
            assert peak is None or profile.facts[name].value <= peak

    def test_has_the_instructions_of_its_architecture(self, profile: DeviceProfile) -> None:
        foreign = {"aarch64": X86, "x86_64": ARM, "any": re.compile("")}[profile.architecture]
        assert [each for each in profile.instructions if foreign.search(each)] == []

    def test_claims_no_dot_product_for_cores_of_before(self, profile: DeviceProfile) -> None:
        if NO_DOT_PRODUCT & {cores.model for cores in profile.cores}:
            assert not {"asimddp", "asimdhp", "i8mm"} & set(profile.instructions)
            assert "fp16" not in profile.dtypes

    def test_computes_in_what_its_instructions_give(self, profile: DeviceProfile) -> None:
        for instruction, dtype in (("fp", "fp32"), ("asimd", "int8"), ("asimdhp", "fp16"), ("bf16", "bf16")):
            if instruction in profile.instructions:
                assert dtype in profile.dtypes
        assert {each.dtype for each in profile.throughput} <= set(profile.dtypes)

    def test_claims_8_and_4_bit_floats_only_for_a_gpu_that_has_them(self, profile: DeviceProfile) -> None:
        capability = profile.facts["compute_capability"].value if "compute_capability" in profile.facts else 0.0
        assert capability >= 8.9 or "fp8_e4m3" not in profile.dtypes
        assert capability >= 10.0 or "nvfp4" not in profile.dtypes

    def test_lists_providers_that_there_are_and_whose_runtime_it_has(self, profile: DeviceProfile) -> None:
        assert set(profile.providers) <= PROVIDERS
        if any(provider.startswith("LiteRT") for provider in profile.providers):
            assert "litert" in profile.runtimes
        if "CPUExecutionProvider" in profile.providers:
            assert "ort" in profile.runtimes

    def test_lists_wheels_that_it_can_install(self, profile: DeviceProfile) -> None:
        for wheel in profile.wheels:
            assert wheel.tag.startswith("manylinux")
            assert profile.architecture == "any" or wheel.tag.endswith(profile.architecture)

    def test_stands_in_the_table_of_the_readme(self, profile: DeviceProfile) -> None:
        table = [line for line in README.splitlines() if line.startswith("| `")]
        assert any(f"`{profile.name}`" in line for line in table)


SECTIONS: list[tuple[str, type[BaseModel]]] = [
    ("", DeviceProfile),
    ("cores.", Cores),
    ("caches.", Cache),
    ("memory.", Memory),
    ("throughput.", Throughput),
    ("power_modes.", PowerMode),
    ("wheels.", Wheel),
    ("facts.NAME.", Fact),
    ("ssh.", Ssh),
    ("adb.", Adb),
    ("emulated.", Emulated),
]


@pytest.mark.parametrize(("prefix", "model"), SECTIONS, ids=[model.__name__ for _, model in SECTIONS])
def test_the_readme_explains_every_field(prefix: str, model: type[BaseModel]) -> None:
    rows = " ".join(line for line in README.splitlines() if line.startswith("| `"))
    assert [field for field in model.model_fields if f"`{prefix}{field}`" not in rows] == []


def test_the_readme_lists_no_profile_that_is_gone() -> None:
    profiles = README.split("## The profiles")[1].split("## ")[0]
    named = {name for line in profiles.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line)}
    assert named == set(NAMES)


def test_the_example_of_the_guide_is_a_profile(tmp_path: Path) -> None:
    guide = (REPOSITORY / "docs" / "devices.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^    # ~/\.config/edgetf/devices/(\w+)\.yaml\n((?:    .*\n)+)", guide, re.MULTILINE)
    name, text = example
    (tmp_path / f"{name}.yaml").write_text(textwrap.dedent(text), encoding="utf-8")
    assert load_device(str(tmp_path / f"{name}.yaml")).target == "ssh"


class TestShown:
    @pytest.mark.parametrize("profile", PROFILES)
    def test_what_is_shown_is_what_the_profile_says(self, profile: DeviceProfile) -> None:
        document = profile.model_dump(mode="json", exclude_none=True)
        shown = yaml.safe_load(profile_text({**profile.model_dump(mode="json"), "schemes": {}}))
        assert shown == {key: value for key, value in document.items() if value not in ([], {})}

    def test_empty_sections_are_left_out(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert devices_command("host", as_json=False) == 0
        assert not {"cores", "memory", "ssh", "facts", "notes"} & set(yaml.safe_load(capsys.readouterr().out))

    def test_the_table_names_cores_and_memory(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "160")
        assert devices_command(None, as_json=False) == 0
        table = capsys.readouterr().out
        assert "4 × Cortex-A76, 2.4 GHz" in table
        assert "4, 8, 16 GiB LPDDR4X, 17 GB/s" in table
