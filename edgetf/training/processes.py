"""Several processes, on several GPUs or machines, work on one run.

The main process goes through the recipe as if it were alone: it alone writes artifacts, measures, and speaks. The
others wait until it calls them to a task, such as a training, in which each does its part; outside of one there is
only one process. Their messages go over gloo, where waiting costs nothing and may last as long as it must.
"""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate.state import PartialState
from accelerate.utils import get_cpu_distributed_information
from torch import Tensor
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from edgetf.core.errors import EXIT_INTERRUPTED, ConfigError, EdgetfError
from edgetf.core.launcher import launched
from edgetf.core.places import cache_folder
from edgetf.core.quiet import quiet

T = TypeVar("T")
_PATIENCE = timedelta(days=30)  # a process may wait for the stages of a whole run
_END = "edgetf/end"  # who ended the run before its time, and with which exit code
_CPU = torch.device("cpu")
_called = False  # whether this process is in a task of all


def count() -> int:
    """How many processes do the task at hand."""
    return dist.get_world_size() if _called else 1


def index() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if _called else 0


def is_main() -> bool:
    """Whether this is the process that writes."""
    return index() == 0


def device() -> torch.device:
    """Where this process computes."""
    if not torch.cuda.is_available() or _on_cpu():
        return _CPU
    return torch.device("cuda", torch.cuda.current_device())


def call(task: Callable[..., T], *arguments: Any) -> T:
    """Do a task in all processes, and give what it gives in this one, the main one.

    The others get task and arguments pickled. A task in which one fails ends the run in all of them.
    """
    global _called  # noqa: PLW0603
    if _called or not dist.is_initialized():
        return task(*arguments)
    _called = True
    _share((task, arguments))
    return _take_part(task, arguments)


def share(value: T) -> T:
    """What the main process has, in all."""
    return _share(value) if count() > 1 else value


def once(work: Callable[[], T]) -> T:
    """Let the main process do something, and give the result in all."""
    return _share(work() if is_main() else None) if count() > 1 else work()


def summed(tensor: Tensor) -> Tensor:
    """The sum over the processes, in place."""
    if count() > 1:
        with _others_may_be_gone():
            dist.all_reduce(tensor)
    return tensor


def aligned(tensors: Iterable[Tensor]) -> None:
    """Give all processes the values of the main one."""
    if count() > 1:
        with _others_may_be_gone():
            for tensor in tensors:
                dist.broadcast(tensor.detach(), src=0)


def meet() -> None:
    """Wait until all are here."""
    if count() > 1:
        _meet()


def together(work: Callable[[], int]) -> int:
    """Do the work in the main process while the others help; gives its exit code, in all of them.

    A process that fails tells the others its code; they end with the same, and leave the message to it.
    """
    if launched() == 1:
        return work()
    store = _join()
    try:
        _same_folders()
        code = _share(work()) if dist.get_rank() == 0 else _serve()
    except BaseException as error:
        _heed_no_signals()
        own = dist.get_rank()
        rank, code = map(int, _first_word(store, f"{own} {_code_of(error)}").split())
        if own == 0 and not _called:  # they wait to be called
            with suppress(KeyboardInterrupt):
                _share(code)
        _leave()
        if rank == own:
            raise
        raise SystemExit(code) from None
    _heed_no_signals()
    _leave()
    return code


def _join() -> Store:
    """Meet the other processes; gives the store in which all can leave a word."""
    for name in ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP", "ACCELERATE_USE_MEGATRON_LM"):
        if os.environ.get(name, "").lower() == "true":
            raise ConfigError(f"{name}: got true, allowed: plain data parallelism, accelerate launch --multi_gpu")
    told = get_cpu_distributed_information()  # what mpirun says under names of its own
    for name, value in (("RANK", told.rank), ("WORLD_SIZE", told.world_size), ("LOCAL_RANK", told.local_rank)):
        os.environ.setdefault(name, str(value))
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29500")
    gpus = torch.cuda.is_available() and not _on_cpu()
    store: Store
    store, rank, size = next(rendezvous("env://"))
    dist.init_process_group(
        "cuda:nccl,cpu:gloo" if gpus else "gloo", store=store, rank=rank, world_size=size, timeout=_PATIENCE
    )
    PartialState(cpu=not gpus)
    return store


def _on_cpu() -> bool:
    """Whether accelerate was told to leave the GPUs alone."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("true", "1", "yes")


def _same_folders() -> None:
    """Work in the main process's folders.

    Raises:
        ConfigError: another machine does not see them.
    """
    folder, cache, name = _share((Path.cwd(), cache_folder().absolute(), f"{uuid.uuid4().hex}.token"))
    if dist.get_rank() == 0:
        cache.mkdir(parents=True, exist_ok=True)
        (cache / name).touch()
    _meet()
    missing = [place for place, sign in ((folder, folder), (cache, cache / name)) if not sign.exists()]
    _meet()
    if dist.get_rank() == 0:
        (cache / name).unlink()
    if missing:
        raise ConfigError(
            f"process {dist.get_rank()}: {missing[0]} is not that of the main process; start all in one folder, with "
            "EDGETF_CACHE in another, which every machine sees under the same name"
        )
    os.chdir(folder)
    os.environ["EDGETF_CACHE"] = str(cache)


def _serve() -> int:
    """Take part in what the main process calls for, until it gives its exit code."""
    while True:
        with quiet():  # what arrives brings imports with it
            word = _share(None)
        if isinstance(word, int):
            return word
        _take_part(*word)


def _take_part(task: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    global _called  # noqa: PLW0603
    _called = True
    result = task(*arguments)
    meet()  # the main process may take the files away only when all are done with them
    _called = False
    return result


def _meet() -> None:
    with _others_may_be_gone():
        dist.all_reduce(torch.zeros(1))


def _share(value: Any) -> Any:
    box = [value]
    with _others_may_be_gone():
        dist.broadcast_object_list(box, src=0, device=_CPU)
    return box[0]


@contextmanager
def _others_may_be_gone() -> Iterator[None]:
    """Without another process the run cannot go on; it is interrupted, and can be resumed."""
    try:
        yield
    except RuntimeError as error:
        raise KeyboardInterrupt from error


def _heed_no_signals() -> None:
    """When one process ends, or is interrupted, a launcher ends those who are already on their way out."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _leave() -> None:
    """Close the connections, whose threads would abort the process at its end; NCCL may wait for who is gone."""
    if not (_called and torch.cuda.is_available()):
        dist.destroy_process_group()


def _first_word(store: Store, mine: str) -> str:
    """The word of the process that ended first; mine, if that was this one, or if its store is gone."""
    try:
        return str(store.compare_set(_END, "", mine), "ascii")
    except RuntimeError:
        return mine


def _code_of(error: BaseException) -> int:
    """The exit code that an error ends with."""
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    return error.exit_code if isinstance(error, EdgetfError) else 1
