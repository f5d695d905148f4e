"""Fits on disk: what is written comes back, belongs to one device and one machine, and is never half read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_latency_fit import some_counts, timed

from edgetf.commands import calibrate
from edgetf.core.device import DeviceProfile, load_device
from edgetf.core.errors import ArtifactError, DeviceError
from edgetf.predict import store
from edgetf.predict.roofline import fit_roofline
from edgetf.predict.store import Fit, find_fit, fit_path, read_fits, write_fits


@pytest.fixture(autouse=True)
def _own_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETF_DEVICES", str(tmp_path / "devices"))


@pytest.fixture
def board() -> DeviceProfile:
    return load_device("raspberry_pi_4")


def fit_of(runtime: str = "ort", scheme: str = "fp32", threads: int = 1, seed: int = 1) -> Fit:
    made = {"date": "2026-01-31", "edgetf": "0"}
    return Fit(runtime, scheme, threads, made, {"processor": "Cortex-A72"}, fit_roofline(timed(some_counts(24, seed))))


def test_what_is_written_predicts_the_same_when_it_is_read(board: DeviceProfile) -> None:
    fit, counts = fit_of(), some_counts(1, seed=9)[0]
    path = write_fits(board, [fit])
    assert path.parent.name == "latency" and path.name == "raspberry_pi_4.json"
    read = find_fit(board, "ort", "fp32", 1)
    assert read.roofline.estimate(counts) == fit.roofline.estimate(counts)
    assert read.about() == fit.about()
    assert not list(path.parent.glob("*.part"))


def test_the_file_says_constants_with_units_and_every_measurement(board: DeviceProfile) -> None:
    record = json.loads(write_fits(board, [fit_of()]).read_text())["fits"][0]
    assert record["constants"]["product"]["unit"] == "ms per 10^9 operations"
    assert record["n"] == len(record["timed"]) == len(record["left_out_errors"]) == 24
    assert record["made"]["date"] == "2026-01-31"


def test_another_calibration_takes_the_place_of_its_like_alone(board: DeviceProfile) -> None:
    write_fits(board, [fit_of(), fit_of(scheme="w8a8_dynamic")])
    newer = fit_of(seed=2)
    write_fits(board, [newer])
    assert [(fit.runtime, fit.scheme) for fit in read_fits(board)] == [("ort", "w8a8_dynamic"), ("ort", "fp32")]
    assert find_fit(board, "ort", "fp32", 1).digest == newer.digest != fit_of().digest


@pytest.mark.parametrize("asked", [("litert", "fp32", 1), ("ort", "w8a8", 1), ("ort", "fp32", 4)])
def test_no_fit_is_said_with_what_there_is_and_the_next_step(board: DeviceProfile, asked: tuple[str, str, int]) -> None:
    write_fits(board, [fit_of()])
    with pytest.raises(DeviceError, match=r"there is: ort fp32 on 1 thread.*edgetf devices calibrate raspberry_pi_4"):
        find_fit(board, *asked)


def test_a_fit_of_another_host_is_not_taken_for_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    host = load_device("host")
    write_fits(host, [fit_of()])
    assert find_fit(host, "ort", "fp32", 1)
    here = store.machine()
    monkeypatch.setattr(store, "machine", lambda: {**here, "processor": "another"})
    assert fit_path(host) != fit_path(load_device("raspberry_pi_4"))
    with pytest.raises(DeviceError, match="calibrate host"):
        find_fit(host, "ort", "fp32", 1)


@pytest.mark.parametrize("damage", ["{}", '{"schema": 99, "fits": []}', '{"schema": 1, "fits": [{}]}', "{", "[]"])
def test_a_broken_file_is_one_clear_error(board: DeviceProfile, damage: str) -> None:
    write_fits(board, [fit_of()]).write_text(damage)
    with pytest.raises(ArtifactError, match="raspberry_pi_4"):
        find_fit(board, "ort", "fp32", 1)


def test_a_digest_is_of_the_constants() -> None:
    fit = fit_of()
    slower = replace(fit.roofline, constants=tuple(np.array(fit.roofline.constants) * 2))
    assert replace(fit, roofline=slower).digest != fit.digest


@pytest.mark.parametrize("as_json", [False, True])
def test_calibrate_keeps_its_fits_and_says_where(
    board: DeviceProfile, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], as_json: bool
) -> None:
    monkeypatch.setattr(calibrate, "calibrate", lambda device, threads, report, say: [fit_of(threads=threads)])
    assert calibrate.calibrate_command("raspberry_pi_4", 2, as_json) == 0
    assert find_fit(board, "ort", "fp32", 2)
    said = capfd.readouterr().out
    assert "raspberry_pi_4.json" in said
    if as_json:
        fit = json.loads(said)["fits"][0]
        assert (fit["threads"], fit["n"]) == (2, 24) and fit["interval_factor"] > 1
    else:
        assert "24 measurements of 8 models on 2 thread(s)" in said
