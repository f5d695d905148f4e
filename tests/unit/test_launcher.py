"""What launchers say of the processes they start."""

from __future__ import annotations

import pytest

from edgetf.core.launcher import launched, launched_here, started_one_of_several

TOLD = ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "PMI_SIZE",
        "MPI_LOCALNRANKS", "MASTER_ADDR", "ACCELERATE_USE_CPU")  # fmt: skip


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TOLD:
        monkeypatch.delenv(name, raising=False)


def test_alone_there_is_one() -> None:
    assert (launched(), launched_here()) == (1, 1)
    assert not started_one_of_several()


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, (4, 2)),
        ({"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_LOCAL_SIZE": "3"}, (3, 3)),
        ({"PMI_SIZE": "2", "MPI_LOCALNRANKS": "1"}, (2, 1)),
        ({"WORLD_SIZE": "", "PMI_SIZE": "2"}, (2, 1)),
        ({"WORLD_SIZE": "many", "LOCAL_WORLD_SIZE": "0"}, (1, 1)),
    ],
)
def test_each_has_names_of_its_own(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, str], wanted: tuple[int, int]
) -> None:
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert (launched(), launched_here()) == wanted


def test_accelerate_that_starts_one_of_several_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    assert not started_one_of_several()
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert started_one_of_several()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not started_one_of_several()
