"""What every worker of a launched run does: join the group, fit, and let the first one write the files."""

from __future__ import annotations

import json
import os
import sys
import traceback
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import msgspec
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, TCPStore

from leanrec.core.console import muted, say
from leanrec.core.errors import LeanrecError
from leanrec.core.files import atomic_write
from leanrec.data.dataset import Dataset
from leanrec.jobs.train import TrainJob, fit_shared, open_run, was_started

__all__ = ["join_and_train", "main"]

_PATIENCE = timedelta(hours=2)
"""How long workers wait for the first one to validate and save."""


def join_and_train(job: TrainJob) -> None:
    """Take part in the run; the process group of the environment is joined unless there is one already."""
    ours = not dist.is_initialized()
    if ours:
        on_gpu = torch.cuda.is_available()
        if on_gpu:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
        rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        dist.init_process_group(backend, store=_meeting_point(), rank=rank, world_size=world, timeout=_PATIENCE)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    first = dist.get_rank() == 0
    data = Dataset.load(job.data)
    if was_started(job):
        if first:
            say("a worker was lost: going on from the last checkpoint")
        job = msgspec.structs.replace(job, resume=True)
    dist.barrier()  # all have looked before the first one opens the run
    if first:
        open_run(job, data)
    with nullcontext() if first else muted():
        fit_shared(job, data, first=first)
    dist.barrier()
    if ours:
        dist.destroy_process_group()


def _meeting_point() -> PrefixStore:
    """The agent's store, a fresh part of it for each restart: addresses of workers that died stay in the old one."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(address, port, is_master=False, timeout=_PATIENCE)
    return PrefixStore(f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def main(described: str) -> int:
    """Exit code: 0 unless the run may go on after a restart; an error that would come again is told in a file."""
    path = Path(described)
    verdict = path.with_name("verdict.json")
    if verdict.exists():
        return 0
    try:
        join_and_train(msgspec.json.decode(path.read_bytes(), type=TrainJob))
    except LeanrecError as error:
        atomic_write(verdict, json.dumps([error.exit_code, str(error)]).encode())
        return 1
    except Exception:
        name = f"fault-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}-{os.environ.get('RANK', '0')}"
        path.with_name(name).write_text(traceback.format_exc())
        return 1
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1])
    sys.stderr.flush()
    os._exit(code)  # threads that wait for a lost peer would keep a failed worker alive
