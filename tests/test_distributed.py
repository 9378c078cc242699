"""Gathers under real processes (gloo), against one process that holds everything."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numba
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from brainmt_align.model.alignment import BatchStandardisation
from brainmt_align.model.losses import clip_loss
from brainmt_align.training.distributed import (
    PAUSE,
    gather_with_grad,
    require_processes,
    set_threads,
    share_of_work,
    share_text,
    start_processes,
    sum_counts,
    sum_with_grad,
)


class Toy(torch.nn.Module):
    """Standardised linear towers with a temperature: what DDP sees of the alignment model."""

    def __init__(self, sum_over_processes):
        super().__init__()
        torch.manual_seed(0)
        self.fmri, self.dna = torch.nn.Linear(6, 8), torch.nn.Linear(5, 8)
        self.standardise = BatchStandardisation(6, sum_over_processes)
        self.log_scale = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, fmri, dna):
        z_fmri = torch.nn.functional.normalize(self.fmri(self.standardise(fmri)), dim=-1)
        return z_fmri, torch.nn.functional.normalize(self.dna(dna), dim=-1), self.log_scale * 1.0


def people(count):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 6, generator=generator) + 20, torch.randn(count, 5, generator=generator)


def whole_batch_gradients(count):
    model = Toy(lambda values: values)
    loss = clip_loss(*model(*people(count)))
    loss.backward()
    return loss.item(), [parameter.grad for parameter in model.parameters()]


def worker(rank, shares, port, results):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(len(shares)))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=len(shares))
    first = sum(shares[:rank])
    fmri, dna = (rows[first : first + shares[rank]] for rows in people(sum(shares)))
    model = torch.nn.parallel.DistributedDataParallel(Toy(sum_with_grad))
    z_fmri, z_dna, log_scale = model(fmri, dna)
    loss = clip_loss(gather_with_grad(z_fmri), gather_with_grad(z_dna), log_scale)
    loss.backward()
    text = share_text("runs/größe" if rank == 0 else None)
    ordered = gather_with_grad(torch.arange(first, first + shares[rank]).float())
    counts = sum_counts({"passes": rank + 1, "bases": 2**40})
    results.put((rank, loss.item(), [p.grad.numpy() for p in model.parameters()], ordered.tolist(), text, counts))
    dist.barrier()
    dist.destroy_process_group()
    time.sleep(PAUSE)  # as end_processes does


@pytest.mark.parametrize("shares", [[4, 4], [3, 5, 2]])
def test_gather_and_sum_give_the_gradient_of_one_process_with_the_whole_batch(shares, unused_tcp_port):
    context = mp.get_context("spawn")
    results = context.SimpleQueue()
    processes = mp.start_processes(
        worker, (shares, unused_tcp_port, results), nprocs=len(shares), join=False, start_method="spawn"
    )
    reported = [results.get() for _ in shares]
    processes.join()
    loss, gradients = whole_batch_gradients(sum(shares))
    for _, each_loss, each_gradients, order, text, counts in reported:
        assert text == "runs/größe"
        assert counts == {"passes": sum(range(1, len(shares) + 1)), "bases": len(shares) * 2**40}
        assert each_loss == pytest.approx(loss, abs=1e-6)
        assert order == list(range(sum(shares)))
        for got, want in zip(each_gradients, gradients, strict=True):
            torch.testing.assert_close(torch.from_numpy(got), want, atol=1e-6, rtol=1e-4)


def test_gather_and_sum_are_the_identity_for_one_process():
    rows = torch.randn(3, 2, requires_grad=True)
    assert gather_with_grad(rows) is rows
    assert sum_with_grad(rows) is rows
    assert share_text("a") == "a" and share_text(None) == ""
    assert sum_counts({"a": 3}) == {"a": 3}


def test_share_of_work_is_the_place_of_this_process_among_all():
    accelerator = SimpleNamespace(process_index=2, num_processes=5, wait_for_everyone=print)
    assert share_of_work(accelerator) == {"process": 2, "num_processes": 5, "wait": print}


def test_start_processes_refuses_a_tracker_that_is_not_installed(tmp_path):
    with pytest.raises(ValueError, match=r"tracker must be one of the installed wandb.*; got 'pigeons'"):
        start_processes(tmp_path, None, tracker="pigeons")


def test_require_processes_refuses_another_number_than_launched(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    require_processes(2)
    with pytest.raises(RuntimeError, match="promised 2 processes \\(WORLD_SIZE\\), but 1 met"):
        require_processes(1)


def test_set_threads_holds_from_the_first_call_on_after_torch_has_started_its_threads():
    script = (
        "import torch; torch.ones(10**6).add(1)\n"
        "from brainmt_align.training.distributed import set_threads\n"
        "assert set_threads(1, 1) == 1 == torch.get_num_threads()"
    )
    root = Path(__file__).parents[1]
    ran = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_set_threads_shares_the_cores_among_local_processes(monkeypatch):
    before = torch.get_num_threads(), numba.get_num_threads()
    try:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
        assert set_threads(None, local_processes=4) == 2 == torch.get_num_threads()
        assert set_threads(None, local_processes=16) == 1 == numba.get_num_threads()
        assert set_threads(100, local_processes=1) == 8
        assert set_threads(3, local_processes=1) == 3 == torch.get_num_threads()
    finally:
        torch.set_num_threads(before[0])
        numba.set_num_threads(before[1])


def test_start_processes_refuses_a_world_size_that_no_launcher_set_before_accelerate_looks_for_the_others(tmp_path):
    script = (
        "from pathlib import Path\n"
        "from brainmt_align.training.distributed import start_processes\n"
        "start_processes(Path('run'), None)"
    )
    root = Path(__file__).parents[1]
    alone = {name: value for name, value in os.environ.items() if name not in ("MASTER_ADDR", "RANK")}
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path, env={**alone, "PYTHONPATH": str(root), "WORLD_SIZE": "2"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode != 0
    assert "The launcher promised 2 processes (WORLD_SIZE), but 1 met." in ran.stderr and "MASTER_ADDR" not in ran.stderr
