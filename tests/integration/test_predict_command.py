"""`edgetf predict`, `edgetf devices calibrate`, and what validate says of a device that is away."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from conftest import Cli, TinyRun

from edgetf.core.device import load_device
from edgetf.core.errors import DeviceError
from edgetf.pipeline import calibrate_device
from edgetf.predict.roofline import Counts, Timed, fit_roofline
from edgetf.predict.store import Fit, find_fit, write_fits
from edgetf.stages.probe_shapes import Architecture

BOARD = "raspberry_pi_4"
INT8, FP32 = "onnx-w8a8_dynamic", "onnx-fp32"


@pytest.fixture
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the user's own devices."""
    monkeypatch.setenv("EDGETF_DEVICES", str(tmp_path / "devices"))
    return tmp_path / "devices"


@pytest.fixture
def fitted(devices: Path) -> None:
    """A fit for INT8 files of ONNX Runtime on a board that is away: 5 ms for every 1,000 operators."""
    counts = [Counts(0.01 * k, 0.001, 0.001, 0.1, 0.1, 0.1, 0.05 * k) for k in range(1, 13)]
    timed = [Timed(f"model {k}", 64, each, 5 * each.turn * (1.02 if k % 2 else 0.98)) for k, each in enumerate(counts)]
    made, machine = {"date": "2026-01-31", "edgetf": "0"}, {"processor": "Cortex-A72"}
    write_fits(load_device(BOARD), [Fit("ort", "w8a8_dynamic", 1, made, machine, fit_roofline(timed))])


def test_without_a_fit_the_exit_code_is_4_and_says_what_to_run(cli: Cli, tiny_run: TinyRun, devices: Path) -> None:
    done = cli("predict", tiny_run.folder / INT8, "--device", BOARD)
    assert done.returncode == 4
    assert f"edgetf devices calibrate {BOARD}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("fitted")
def test_a_prediction_carries_the_word_an_interval_and_its_source(cli: Cli, tiny_run: TinyRun) -> None:
    done = cli("predict", tiny_run.folder / INT8, "--device", BOARD, "--seq-len", 8, "--seq-len", 32, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["schema"], document["device"], document["how"]) == (1, BOARD, "predicted")
    assert [row["seq_len"] for row in document["models"]] == [8, 32]
    for row in document["models"]:
        low, high = row["interval95_ms"]
        assert 0 < low < row["latency_p50_ms"] < high
        assert sum(row["share"].values()) == pytest.approx(1, abs=1e-3)
        assert row["fit"]["date"] == "2026-01-31" and row["fit"]["n"] == 12
    text = cli("predict", tiny_run.folder / INT8, "--device", BOARD).stdout
    assert "predicted" in text and "95 %" in text and "2026-01-31" in text and "Cortex-A72" in text


@pytest.mark.usefixtures("fitted")
def test_another_scheme_or_number_of_threads_needs_its_own_fit(cli: Cli, tiny_run: TinyRun) -> None:
    done = cli("predict", tiny_run.folder / FP32, "--device", BOARD)
    assert done.returncode == 4 and "ort fp32" in done.stderr and "there is: ort w8a8_dynamic" in done.stderr
    done = cli("predict", tiny_run.folder / INT8, "--device", BOARD, "--threads", 4)
    assert done.returncode == 4 and "--threads 4" in done.stderr


@pytest.mark.usefixtures("fitted")
def test_validate_predicts_a_device_that_is_away_and_never_passes_a_budget_by_it(
    cli: Cli, tiny_run: TinyRun, tmp_path: Path
) -> None:
    junit = tmp_path / "out.xml"
    done = cli("validate", tiny_run.folder / INT8, "--device", BOARD, "--budget", "latency_p50_ms=100000",
               "--budget", "accuracy_drop=0.5", "--junit", junit, "--json")  # fmt: skip
    assert done.returncode == 4
    row = json.loads(done.stdout)["devices"][0]
    assert (row["how"], row["verdict"], row["latency_p50_ms"]) == ("predicted", "not_measured", None)
    low, high = row["predicted"]["interval95_ms"]
    assert low < row["predicted"]["latency_p50_ms"] < high
    latency, accuracy = row["checks"]
    assert latency["verdict"] == accuracy["verdict"] == "not_measured"
    assert "predicted" in latency["why"] and "not measured" in latency["why"]
    assert "predicted" not in accuracy["why"]
    suite = ElementTree.parse(junit).getroot().find("testsuite")
    assert suite is not None and suite.get("skipped") == suite.get("tests") == "3"


def test_validate_says_no_more_than_before_of_a_device_without_a_fit(
    cli: Cli, tiny_run: TinyRun, devices: Path
) -> None:
    done = cli("validate", tiny_run.folder / INT8, "--device", BOARD, "--json")
    row = json.loads(done.stdout)["devices"][0]
    assert (done.returncode, row["how"], row["predicted"]) == (4, "not_measured", None)


def test_devices_still_lists_and_shows(cli: Cli, devices: Path) -> None:
    names = [profile["name"] for profile in json.loads(cli("devices", "--json").stdout)]
    assert {"host", BOARD} <= set(names)
    assert json.loads(cli("devices", BOARD, "--json").stdout) == json.loads(cli("devices", "--json", BOARD).stdout)
    assert f"name: {BOARD}" in cli("devices", BOARD).stdout
    assert cli("devices", "nothing_like_it").returncode == 2
    assert "calibrate" in cli("devices", "--help").stdout


def test_a_device_that_cannot_be_reached_cannot_be_calibrated(cli: Cli, devices: Path) -> None:
    done = cli("devices", "calibrate", BOARD)
    assert done.returncode == 4 and "cannot be reached" in done.stderr
    assert not devices.exists()


def test_an_emulated_device_gives_no_milliseconds_to_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    class Emulated:
        how = "emulated"

    monkeypatch.setattr(calibrate_device, "open_target", lambda device: Emulated())
    with pytest.raises(DeviceError, match="gives no milliseconds"):
        calibrate_device.calibrate(load_device("host"), 1, lambda *about: None, lambda remark: None)


@pytest.mark.slow
def test_calibrating_this_machine_fits_every_runtime_and_predicts_a_probe(
    devices: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three tiny probes: that times are taken and fitted; how well, is what benchmarks/prediction.py measures."""
    pytest.importorskip("litert_torch", reason="needs edgetf[tflite]")
    monkeypatch.setattr(calibrate_device, "SECONDS", 0.2)
    probes = [Architecture(layers, 64, 2, 128, (8, 24)) for layers in (1, 2, 4)]
    said: list[str] = []
    host = load_device("host")
    fits = calibrate_device.calibrate(host, 1, lambda *about: None, said.append, probes)
    keys = {(fit.runtime, fit.scheme) for fit in fits}
    assert keys == {(runtime, scheme) for runtime in ("ort", "litert") for scheme in ("fp32", "w8a8_dynamic")}
    for fit in fits:
        assert fit.about()["models"] == 3 and fit.about()["n"] == 6
        assert fit.machine["processor"]
        timed = fit.roofline.timed[-1]
        assert fit.roofline.estimate(timed.counts).ms == pytest.approx(timed.ms, rel=0.9)
    write_fits(host, fits)
    assert find_fit(host, "litert", "fp32", 1).about() == next(
        fit.about() for fit in fits if (fit.runtime, fit.scheme) == ("litert", "fp32")
    )
