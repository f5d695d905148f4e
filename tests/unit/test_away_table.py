"""A search for speed on a device that is away: its table is predicted by the device's fit, nothing is timed here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_latency_fit import some_counts
from tiny import LABELS, tiny_config

from edgetf.config.stages import PruneConfig
from edgetf.core.device import load_device
from edgetf.models.heads import CLASSIFIER, build
from edgetf.models.shapes import shape_of
from edgetf.predict.roofline import Timed, fit_roofline
from edgetf.predict.store import Fit, write_fits
from edgetf.stages import latency, probes
from edgetf.stages.deployment import Deployment, away_by_fit
from edgetf.stages.latency import latency_table
from edgetf.stages.target import Search

BOARD = "raspberry_pi_4"
HERE = Deployment("onnx", "fp32", threads=1, seq_len=16, rewrite=False)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGETF_DEVICES", str(tmp_path / "devices"))

    def nothing_is_timed(request: dict[str, Any]) -> None:
        raise AssertionError("a model was timed on this machine")

    monkeypatch.setattr(probes, "ask_runner", nothing_is_timed)
    monkeypatch.setattr(latency, "MEASURED", 2)  # an export takes a second or two


def fit_board(slow: float = 1.0) -> None:
    """A fit of fp32 on the board: products alone cost, the heavier the slower it is."""
    counts = some_counts(24, seed=1)
    timed = [Timed(f"model {k}", 16, each, slow * (100 * each.product + 0.1)) for k, each in enumerate(counts)]
    made = {"date": "2026-01-31"}
    write_fits(load_device(BOARD), [Fit("ort", "fp32", 1, made, {}, fit_roofline(timed))])


def silent(done: int, total: int, note: str) -> None:
    """A report to nobody."""


def test_an_away_device_with_a_fit_is_predicted_and_one_without_is_timed_here() -> None:
    board, host = load_device(BOARD), load_device("host")
    assert away_by_fit(HERE, [board]) == HERE
    fit_board()
    away = away_by_fit(HERE, [board])
    assert (away.away, away.how, HERE.how) == (BOARD, "predicted", "measured")
    assert away_by_fit(HERE, [board, host]) == HERE  # this machine is asked for as well
    assert away_by_fit(replace(HERE, scheme="w8a8"), [board]).away is None  # fitted for fp32 alone


def test_a_key_of_before_is_still_the_key_and_another_calibration_is_another_one() -> None:
    assert set(HERE.record()) == {"model_format", "scheme", "threads", "seq_len", "rewrite"}
    fit_board()
    first = away_by_fit(HERE, [load_device(BOARD)])
    fit_board(slow=2.0)
    second = away_by_fit(HERE, [load_device(BOARD)])
    assert first.record()["fit"] != second.record()["fit"]


@pytest.mark.slow
def test_the_table_of_an_away_device_is_predicted() -> None:
    fit_board()
    away = away_by_fit(HERE, [load_device(BOARD)])
    config = tiny_config("bert", LABELS).to_dict()
    table = latency_table(config, away, 16, silent)
    assert np.all(np.diff(list(table.neurons.values())) >= 0)
    assert table.neurons[64] > table.neurons[0] == 0
    fit_board(slow=3.0)
    slower = latency_table(config, away_by_fit(HERE, [load_device(BOARD)]), 16, silent)
    assert slower.predict(shape_of(config)) == pytest.approx(3 * table.predict(shape_of(config)), rel=0.05)


@pytest.mark.slow
def test_a_search_says_that_its_speed_up_was_predicted() -> None:
    fit_board()
    away = away_by_fit(HERE, [load_device(BOARD)])
    model = build(tiny_config("bert", LABELS), CLASSIFIER).eval()
    settings = {"epochs": 0, "threads": 1, "round_to": 4, "importance": "magnitude"}
    with Search(PruneConfig(**settings, target={"speedup": 1.2}), model, away, silent) as search:
        search.shape(model, 1.0, *_importance(model))
        assert search.found["how"] == "predicted"
        assert search.found["predicted_speedup"] > 1
        assert "measured_ms" not in search.found
        search.found["predicted_speedup"] = 0.5
        assert "predicted" in str(search.remark()) and BOARD in str(search.remark())


def _importance(model: Any) -> tuple[Any, Any]:
    """Every unit counts alike."""
    import torch

    from edgetf.algorithms.search import separate_losses
    from edgetf.models.families import family_of
    from edgetf.models.slicing import feed_forwards_of, heads_of, layers_of, neurons_of

    family, scores = family_of(model.config.model_type), {}
    for index, layer in enumerate(layers_of(model)):
        scores[index, family.attention_output] = torch.ones(heads_of(model, layer))
        for part in feed_forwards_of(model):
            scores[index, part.down] = torch.ones(neurons_of(layer, part))
    return scores, {unit: separate_losses(each.double().numpy()) for unit, each in scores.items()}
