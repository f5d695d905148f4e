"""A number says with what it was made."""

from __future__ import annotations

import re
from importlib.metadata import version

from edgetf import __version__
from edgetf.core.made import commit, load_average, machine, made_with, versions


def test_versions_are_the_installed_ones_and_absent_packages_are_left_out() -> None:
    assert versions("numpy", "no-such-package-of-ours") == {"numpy": version("numpy")}


def test_made_record_keeps_the_contract() -> None:
    record = made_with("numpy", "pydantic")
    assert set(record) == {"edgetf", "commit", "python", "versions"}
    assert record["edgetf"] == __version__
    assert set(record["versions"]) == {"numpy", "pydantic"}


def test_commit_is_short_or_none() -> None:
    found = commit()
    assert found is None or re.fullmatch(r"[0-9a-f]{12,40}\+?", found)


def test_machine_tells_processor_cores_and_memory() -> None:
    record = machine()
    assert set(record) == {"architecture", "system", "processor", "instructions", "cores", "memory_mib"}
    assert record["architecture"] and record["processor"]
    assert record["cores"] >= 1
    assert record["memory_mib"] is None or record["memory_mib"] > 100


def test_load_average_is_a_number_or_not_measured() -> None:
    load = load_average()
    assert load is None or load >= 0
