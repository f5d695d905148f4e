"""How many processes a launcher (accelerate launch, torchrun, mpirun) has started, by what it tells them."""

from __future__ import annotations

import os
from collections.abc import Sequence

_ALL = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
_HERE = ("LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "MV2_COMM_WORLD_LOCAL_SIZE")


def launched() -> int:
    """Processes on all machines; 1 without a launcher."""
    return _told(_ALL)


def launched_here() -> int:
    """Those of them on this machine."""
    return _told(_HERE)


def started_one_of_several() -> bool:
    """Whether several processes were asked for and one came: `accelerate launch --cpu` starts more by mpirun only."""
    return launched() == 1 and "ACCELERATE_USE_CPU" in os.environ and "MASTER_ADDR" in os.environ


def _told(names: Sequence[str]) -> int:
    values = (os.environ.get(name, "") for name in names)
    return next((int(value) for value in values if value.isdecimal() and int(value) > 0), 1)
