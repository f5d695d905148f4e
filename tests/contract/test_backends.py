"""What every backend promises: the same suite for ONNX Runtime, LiteRT, the fake, and one that joins as a plug-in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_graphs import BIAS, CLASSES, LENGTHS, WEIGHT, WORDS, expected, write_fake, write_onnx, write_tflite

from edgetf.core.errors import ArtifactError, DeviceError, ParityError
from edgetf.runtime.backend import Backend, Session, fitting_length
from edgetf.runtime.inputs import Batch
from edgetf.runtime.load import load_backend

PLUGIN = "from edgetf.runtime.fake import FakeBackend\n\nclass Plugged(FakeBackend):\n    name = 'plugged'\n"
KINDS = {
    "fake": (".json", write_fake, None),
    "ort": (".onnx", write_onnx, "onnxruntime"),
    "litert": (".tflite", write_tflite, "ai_edge_litert"),
    "plugged": (".json", write_fake, None),
}


@dataclass(frozen=True)
class Kind:
    """A backend with a way to write its model files."""

    backend: Backend
    suffix: str
    write: Callable[..., Path]
    folder: Path

    def load(self, threads: int = 1, **how: Any) -> Session:
        return self.backend.load(self.write(self.folder / f"model{self.suffix}", **how), threads)


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kind:
    """Each backend in turn."""
    suffix, write, package = KINDS[request.param]
    if package is not None:
        pytest.importorskip(package, reason=f"{package} is not installed")
    if request.param == "plugged":
        install_plugin(tmp_path / "site", monkeypatch)
    folder = tmp_path / "models"
    folder.mkdir()
    return Kind(load_backend(request.param), suffix, write, folder)


def install_plugin(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution that offers a backend by its entry point, as pip would install it."""
    info = site / "plugged-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[edgetf.backends]\nplugged = plugged_backend:Plugged\n")
    (site / "plugged_backend.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(site))


def batch(rows: int = 2, tokens: int = 4, seed: int = 0, real: int | None = None) -> Batch:
    """Random ids (rows, tokens), of which the first `real` of each row are unmasked."""
    ids = np.random.default_rng(seed).integers(0, WORDS, size=(rows, tokens))
    mask = np.zeros_like(ids)
    mask[:, : tokens if real is None else real] = 1
    return Batch(ids, mask, np.zeros_like(ids))


def test_backend_has_the_name_it_is_asked_for_by(kind: Kind) -> None:
    assert load_backend(kind.backend.name).name == kind.backend.name


def test_a_missing_file_is_an_artifact_error(kind: Kind) -> None:
    with pytest.raises(ArtifactError, match="not found"):
        kind.backend.load(kind.folder / f"nowhere{kind.suffix}", 1)


def test_a_folder_is_an_artifact_error(kind: Kind) -> None:
    with pytest.raises(ArtifactError):
        kind.backend.load(kind.folder, 1)


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"\x00" * 4096, b"[1, 2]"], ids=["empty", "words", "zeros", "list"]
)
def test_a_file_of_another_kind_is_an_artifact_error(kind: Kind, content: bytes) -> None:
    path = kind.folder / f"broken{kind.suffix}"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=path.name):
        kind.backend.load(path, 1)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_a_cut_file_is_an_artifact_error(kind: Kind, share: float) -> None:
    path = kind.write(kind.folder / f"cut{kind.suffix}")
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    with pytest.raises(ArtifactError, match=path.name):
        kind.backend.load(path, 1)


def test_logits_are_those_of_the_formula(kind: Kind) -> None:
    given = batch(rows=3)
    logits = kind.load().run(given)
    assert logits.shape == (3, CLASSES)
    assert logits.dtype == np.float64
    assert logits == pytest.approx(expected(given.input_ids, given.attention_mask), abs=1e-5)


def test_the_same_input_gives_the_same_logits(kind: Kind) -> None:
    session = kind.load()
    first = session.run(batch())
    kept = first.copy()
    session.run(batch(seed=1))
    assert np.array_equal(session.run(batch()), kept)
    assert np.array_equal(first, kept), "a later run wrote into an earlier answer"


def test_two_sessions_do_not_disturb_each_other(kind: Kind) -> None:
    one, other = kind.load(), kind.backend.load(kind.write(kind.folder / f"other{kind.suffix}", weight=2 * WEIGHT), 1)
    given = batch()
    assert one.run(given) - BIAS == pytest.approx((other.run(given) - BIAS) / 2, abs=1e-5)


def test_a_row_does_not_feel_its_neighbours(kind: Kind) -> None:
    session, given = kind.load(), batch(rows=3)
    together = session.run(given)
    for row in range(3):
        only = Batch(*(array[row : row + 1] for array in vars(given).values()))
        assert session.run(only)[0] == pytest.approx(together[row], abs=1e-6)


def test_padding_changes_nothing(kind: Kind) -> None:
    session, short = kind.load(), batch(rows=1, tokens=4)
    long = Batch(*(np.pad(array, ((0, 0), (0, 4))) for array in vars(short).values()))
    assert long.attention_mask.sum() == 4
    assert session.run(long) == pytest.approx(session.run(short), abs=1e-5)


def test_every_length_it_names_runs(kind: Kind) -> None:
    session = kind.load()
    assert session.lengths is None or session.lengths == tuple(sorted(session.lengths))
    for length in session.lengths or (1, 5, 32):
        given = batch(tokens=length)
        assert session.run(given) == pytest.approx(expected(given.input_ids, given.attention_mask), abs=1e-5)


def test_input_names_are_known_to_a_batch(kind: Kind) -> None:
    session = kind.load()
    assert session.input_names == ("input_ids", "attention_mask")
    assert set(batch().named(session.input_names)) == {"input_ids", "attention_mask"}


def test_threads_do_not_change_the_answer(kind: Kind) -> None:
    given = batch()
    assert kind.load(threads=2).run(given) == pytest.approx(kind.load(threads=1).run(given), abs=1e-6)


def test_engine_says_what_was_asked_and_what_ran(kind: Kind) -> None:
    engine = kind.load().engine
    assert engine.asked
    assert engine.ran


def test_litert_says_that_xnnpack_ran_where_it_did(tmp_path: Path) -> None:
    """The delegate takes its ops when tensors are allocated, which is after a file was opened."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    path = write_tflite(tmp_path / "model.tflite")
    plain = interpreter.Interpreter(model_path=str(path), num_threads=1)
    plain.allocate_tensors()
    delegated = "DELEGATE" in [op["op_name"] for op in plain._get_ops_details()]
    engine = load_backend("litert").load(path, 1).engine
    assert engine.ran == ("XNNPACK" if delegated else "built-in kernels")


def test_litert_has_the_lengths_of_its_signatures(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    session = load_backend("litert").load(write_tflite(tmp_path / "model.tflite"), 1)
    assert session.lengths == LENGTHS
    assert fitting_length(session.lengths, 5) == 8


@pytest.mark.parametrize("prefix", ["serving_", "seq_x"])
def test_litert_refuses_a_file_without_our_signatures(tmp_path: Path, prefix: str) -> None:
    pytest.importorskip("ai_edge_litert")
    with pytest.raises(ArtifactError, match="model.tflite"):
        load_backend("litert").load(write_tflite(tmp_path / "model.tflite", prefix=prefix), 1)


def test_tflite_runtime_says_that_this_python_lacks_it(tmp_path: Path) -> None:
    """It needs a numpy of its own, so it is asked in another process; see `edgetf.targets.side`."""
    if find_spec("tflite_runtime") is not None:
        pytest.skip("tflite_runtime is installed here")
    with pytest.raises(DeviceError, match="tflite_runtime: not available in .*; install tflite-runtime 2.14 and numpy"):
        load_backend("tflite_runtime").load(tmp_path / "model.tflite", 1)


def test_ort_refuses_a_graph_with_inputs_that_we_do_not_know(tmp_path: Path) -> None:
    """`bench` opens any file; one that wants other inputs must not end in a KeyError."""
    pytest.importorskip("onnxruntime")
    with pytest.raises((ArtifactError, ParityError), match="pixel_mask"):
        session = load_backend("ort").load(write_onnx(tmp_path / "model.onnx", mask_name="pixel_mask"), 1)
        session.run(batch())


def test_ort_names_an_op_that_it_lacks(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    model = onnx.load(str(write_onnx(tmp_path / "model.onnx")))
    model.graph.node[-1].op_type = "NoSuchOp"
    onnx.save(model, str(tmp_path / "model.onnx"))
    with pytest.raises(ParityError, match="lacks an op of it .*NoSuchOp"):
        load_backend("ort").load(tmp_path / "model.onnx", 1)


def test_an_unknown_backend_names_the_nearest() -> None:
    with pytest.raises(DeviceError, match=r"backend litrt: not known; did you mean litert\?"):
        load_backend("litrt")


def test_an_unknown_backend_names_plug_ins_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_plugin(tmp_path / "site", monkeypatch)
    with pytest.raises(DeviceError, match=r"did you mean plugged\?"):
        load_backend("pluged")


@pytest.mark.parametrize(
    ("lengths", "tokens", "wanted"),
    [(None, 7, 7), ((32, 64), 1, 32), ((32, 64), 32, 32), ((32, 64), 33, 64), ((32, 64), 99, 64)],
)
def test_fitting_length_is_the_shortest_that_holds_or_the_longest(
    lengths: tuple[int, ...] | None, tokens: int, wanted: int
) -> None:
    assert fitting_length(lengths, tokens) == wanted
