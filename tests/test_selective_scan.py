"""The selective scan: golden numbers, a naive loop in numpy and finite differences in; agreement of the backends out."""

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

import encoders
import encoders.selective_scan as package
from encoders.selective_scan import ScanInputs, bidirectional_scan, cuda, kernels, reference, selective_scan, triton
from encoders.selective_scan.cpu import _rows_around

BACKENDS = ["reference", "cpu", "triton"]  # triton in its interpreter, see conftest.py
SEQUENCES = ("u", "delta", "B", "C", "z")
NAMES = (*SEQUENCES, "A", "D", "delta_bias")
ABSENT = [(), ("D",), ("z",), ("delta_bias",), ("D", "z", "delta_bias")]


pytestmark = pytest.mark.usefixtures("quick_interpreter")


def make_inputs(batch=2, channels=5, length=7, states=3, dtype=torch.float32, seed=0):
    """Random inputs by name, all requiring gradients; A negative and steps positive, as in Mamba."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        **dict.fromkeys(("u", "delta", "z"), (batch, channels, length)),
        **dict.fromkeys(("B", "C"), (batch, states, length)),
        **dict.fromkeys(("D", "delta_bias"), (channels,)),
        "A": (channels, states),
    }
    inputs = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
    inputs |= {"A": -inputs["A"].exp(), "delta": inputs["delta"].abs(), "delta_bias": inputs["delta_bias"].abs()}
    return {name: tensor.to(dtype).requires_grad_() for name, tensor in inputs.items()}


def scan_in_numpy(u, delta, A, B, C, D, z, delta_bias):
    """The recurrence as its definition reads, every scalar on its own line of the loops, in float64."""
    batch, channels, length = u.shape
    out = np.zeros(u.shape)
    for b, d in np.ndindex(batch, channels):
        h = np.zeros(A.shape[1])
        for t in range(length):
            dt = np.log1p(np.exp(delta[b, d, t] + delta_bias[d]))
            h = np.exp(dt * A[d]) * h + dt * B[b, :, t] * u[b, d, t]
            gate = z[b, d, t] / (1 + np.exp(-z[b, d, t]))
            out[b, d, t] = (h @ C[b, :, t] + D[d] * u[b, d, t]) * gate
    return out


def scan_with_gradients(inputs, **options):
    """(out, gradients by name) of a fixed scalar of the output."""
    inputs = {name: tensor.detach().clone().requires_grad_() for name, tensor in inputs.items()}
    out = selective_scan(**inputs, **options)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype, device=out.device).reshape(out.shape)
    (out * weights).sum().backward()
    return out.detach(), {name: tensor.grad for name, tensor in inputs.items()}


@pytest.mark.parametrize("backend", BACKENDS)
def test_selective_scan_equals_the_published_numbers(golden, backend):
    tensors = golden("mamba/selective_scan").tensors
    inputs = {name: tensors[name].clone().requires_grad_() for name in NAMES}
    out = selective_scan(**inputs, delta_softplus=True, backend=backend)
    (out * tensors["g"]).sum().backward()
    torch.testing.assert_close(out, tensors["out"], atol=1e-4, rtol=0)
    for name, tensor in inputs.items():
        expected = tensors[f"grad.{name}"]
        assert (tensor.grad - expected).abs().max() <= 5e-5 * expected.abs().max(), name


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (2, 33, 65, 3), (1, 32, 64, 16), (1, 70, 131, 5)])
def test_selective_scan_equals_the_loop_over_scalars(backend, sizes):
    inputs = make_inputs(*sizes)
    out = selective_scan(**inputs, delta_softplus=True, backend=backend)
    expected = scan_in_numpy(**{name: tensor.detach().double().numpy() for name, tensor in inputs.items()})
    np.testing.assert_allclose(out.detach().numpy(), expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("length", [7, 70])
def test_selective_scan_reversed_equals_flipped_scan_of_flipped_inputs(backend, length):
    inputs = make_inputs(channels=35, length=length)
    flipped = {name: tensor.flip(-1) if name in SEQUENCES else tensor for name, tensor in inputs.items()}
    out = selective_scan(**inputs, delta_softplus=True, reverse=True, backend=backend)
    torch.testing.assert_close(out, selective_scan(**flipped, delta_softplus=True, backend=backend).flip(-1))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("softplus", [False, True])
@pytest.mark.parametrize("absent", ABSENT)
def test_selective_scan_gradients_equal_finite_differences(backend, reverse, softplus, absent):
    inputs = make_inputs(2, 3, 5, 2, torch.float64)
    names = [name for name in NAMES if name not in absent]

    def scan(*tensors):
        named = dict(zip(names, tensors, strict=True))
        return selective_scan(**named, delta_softplus=softplus, reverse=reverse, backend=backend)

    assert torch.autograd.gradcheck(scan, [inputs[name] for name in names])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("softplus", [False, True])
@pytest.mark.parametrize("absent", ABSENT)
def test_selective_scan_triton_gradients_equal_the_reference_in_float64(reverse, softplus, absent):
    inputs = {name: tensor for name, tensor in make_inputs(2, 11, 37, 3, torch.float64).items() if name not in absent}
    expected_out, expected = scan_with_gradients(inputs, delta_softplus=softplus, reverse=reverse, backend="reference")
    out, gradients = scan_with_gradients(inputs, delta_softplus=softplus, reverse=reverse, backend="triton")
    torch.testing.assert_close(out, expected_out, atol=1e-12, rtol=1e-10)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-12, rtol=1e-10, msg=name)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("absent", [((), ()), (("D", "z"), ("D",)), (("delta_bias",), ("D",))])
def test_bidirectional_scan_is_the_sum_of_a_scan_each_way(backend, reverse, absent):
    ways = [make_inputs(2, 9, 35, 2, torch.float64, seed) for seed in (0, 1)]
    z = None if "z" in absent[0] else ways[0]["z"]
    ways = [{name: t for name, t in way.items() if name not in ("z", *gone)} for way, gone in zip(ways, absent, strict=True)]
    tensors = [*ways[0].values(), *ways[1].values(), *([] if z is None else [z])]
    options = {"z": z, "delta_softplus": True}
    expected = selective_scan(**ways[0], **options, reverse=reverse, backend="reference") + selective_scan(
        **ways[1], **options, reverse=not reverse, backend="reference"
    )
    out = bidirectional_scan(ScanInputs(**ways[0]), ScanInputs(**ways[1]), **options, reverse=reverse, backend=backend)
    torch.testing.assert_close(out, expected)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape)
    for got, exact in zip(*(torch.autograd.grad(each, tensors, weights) for each in (out, expected)), strict=True):
        torch.testing.assert_close(got, exact)


@pytest.mark.parametrize("backend", BACKENDS)
def test_bidirectional_scan_takes_directions_of_different_precision(backend):
    first, second = ({k: v for k, v in make_inputs(2, 9, 35, 2, seed=seed).items() if k != "z"} for seed in (0, 1))
    second = {name: tensor.detach().bfloat16() for name, tensor in second.items()}
    expected = selective_scan(**first, backend="reference") + selective_scan(**second, reverse=True, backend="reference")
    out = bidirectional_scan(ScanInputs(**first), ScanInputs(**second), backend=backend)
    torch.testing.assert_close(out, expected, atol=0.05, rtol=0.05)


def test_bidirectional_scan_fails_when_the_directions_differ_in_size():
    short, long = (ScanInputs(**{k: v for k, v in make_inputs(length=n).items() if k != "z"}) for n in (7, 8))
    with pytest.raises(ValueError, match=r"both directions must agree in u \(B, D, L\) and A \(D, N\); got u \(2, 5, 7\) and"):
        bidirectional_scan(short, long)


def test_bidirectional_scan_fails_when_the_directions_are_on_several_devices():
    first = ScanInputs(**{name: tensor.detach() for name, tensor in make_inputs().items() if name != "z"})
    second = ScanInputs(*(tensor.to("meta") for tensor in first))
    with pytest.raises(ValueError, match=r"both directions must be on one device; got cpu and meta\.\n  fix: move them"):
        bidirectional_scan(first, second)


@pytest.mark.parametrize("reverse", [False, True])
def test_selective_scan_cpu_gradients_equal_the_reference_over_several_tiles(reverse):
    inputs = make_inputs(2, 70, 3 * kernels.TILE + 5, 4)
    expected_out, expected = scan_with_gradients(inputs, delta_softplus=True, reverse=reverse, backend="reference")
    out, gradients = scan_with_gradients(inputs, delta_softplus=True, reverse=reverse, backend="cpu")
    torch.testing.assert_close(out, expected_out, atol=1e-4, rtol=1e-5)
    for name, gradient in gradients.items():
        assert (gradient - expected[name]).abs().max() <= 5e-5 * expected[name].abs().max(), name


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_selective_scan_keeps_the_precision_of_u_and_computes_in_float32(backend, dtype):
    inputs = make_inputs(channels=9, length=40)
    halved = {name: tensor.detach().to(dtype if name in SEQUENCES else torch.float32) for name, tensor in inputs.items()}
    out, gradients = scan_with_gradients(halved, delta_softplus=True, backend=backend)
    expected, _ = scan_with_gradients({name: t.float() for name, t in halved.items()}, delta_softplus=True, backend=backend)
    assert out.dtype == dtype
    torch.testing.assert_close(out, expected.to(dtype))
    assert all(gradients[name].dtype == halved[name].dtype for name in NAMES)


def transposed(t):
    return t.transpose(1, 2).contiguous().transpose(1, 2)


def sliced(t):
    return torch.cat([t, t], -1)[..., : t.shape[-1]]


def sliced_across(t):
    return torch.cat([t, t], 1)[:, : t.shape[1]]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("lay", [transposed, sliced, sliced_across])
@pytest.mark.parametrize("names", [("u",), ("delta",), ("z",), SEQUENCES])
@pytest.mark.parametrize("precision", ["single", "half u", "double A"])
def test_selective_scan_reads_any_strides(backend, lay, names, precision):
    inputs = make_inputs(channels=9, length=9)  # D == L: a wrong layout would have the right shape
    inputs["u"] = inputs["u"].detach().to(torch.bfloat16 if precision == "half u" else torch.float32).requires_grad_()
    inputs["A"] = inputs["A"].detach().to(torch.float64 if precision == "double A" else torch.float32).requires_grad_()
    laid = {name: lay(tensor.detach()) if name in names else tensor for name, tensor in inputs.items()}
    expected, gradients = scan_with_gradients(inputs, backend="reference")
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in laid.items()}
    out = selective_scan(**leaves, backend=backend)
    torch.testing.assert_close(out, expected)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape)
    for name, gradient in zip(leaves, torch.autograd.grad((out * weights).sum(), list(leaves.values())), strict=True):
        torch.testing.assert_close(gradient, gradients[name], atol=1e-4, rtol=2e-2 if precision == "half u" else 1e-4)


@pytest.mark.parametrize("first", [0, 5, 11])
@pytest.mark.parametrize("batch", [1, 2])
def test_selective_scan_cpu_reads_a_gate_among_wider_rows_where_it_lies(batch, first):
    torch.manual_seed(0)
    rows = torch.randn(batch, 70, 18)
    gate = rows[..., first : first + 7].transpose(1, 2)
    array, across, z0 = _rows_around(gate, torch.float32)
    assert array.data_ptr() == rows.data_ptr() and array.shape == rows.shape and (across, z0) == (False, first)

    u, delta = torch.randn(2, batch, 7, 70)
    B, C = torch.randn(2, batch, 3, 70)
    given = {"u": u, "delta": delta, "A": -torch.rand(7, 3), "B": B, "C": C, "delta_softplus": True}
    results = []
    for z, backend in ((gate, "cpu"), (gate.contiguous(), "reference")):
        leaf = z.detach().requires_grad_(True)
        assert leaf.stride() == z.stride()
        out = selective_scan(**given, z=leaf, backend=backend)
        out.square().sum().backward()
        results.append((out.detach(), leaf.grad))
    for fast, plain in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain, atol=1e-5, rtol=1e-4)


def test_selective_scan_cpu_copies_a_gate_whose_rows_are_not_whole():
    rows = torch.randn(2, 70, 18)
    for gate in (rows[:, 3:, 2:9].transpose(1, 2), rows[..., ::2].transpose(1, 2), rows[..., :7].double().transpose(1, 2)):
        array, across, z0 = _rows_around(gate, torch.float32)
        assert array.equal(gate.transpose(1, 2).float()) and (across, z0) == (False, 0)


@pytest.mark.parametrize("backend", ["cpu", "triton"])
def test_selective_scan_refuses_a_second_derivative_that_it_does_not_have(backend):
    inputs = make_inputs()
    with pytest.raises(NotImplementedError, match=rf"'{backend}' gives first derivatives(.|\n)*fix: pass backend='reference'"):
        torch.autograd.grad(selective_scan(**inputs, backend=backend).sum(), inputs["u"], create_graph=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_selective_scan_over_no_samples_is_empty_and_differentiable(backend):
    inputs = make_inputs(batch=0)
    selective_scan(**inputs, delta_softplus=True, backend=backend).sum().backward()
    assert all((tensor.grad == 0).all() for tensor in inputs.values())


@pytest.mark.parametrize("backend", BACKENDS)
def test_selective_scan_passes_nan_on_when_delta_holds_it(backend):
    inputs = {name: tensor.detach() for name, tensor in make_inputs().items()}
    inputs["delta"][0, 1, 2] = float("nan")
    out = selective_scan(**inputs, delta_softplus=True, backend=backend)
    assert out[0, 1, 2:].isnan().all()
    assert out[1].isfinite().all()


def test_selective_scan_cpu_is_bit_equal_whatever_the_thread_count():
    inputs, before = make_inputs(3, 130, 90, 4), torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(scan_with_gradients(inputs, delta_softplus=True, backend="cpu"))
    finally:
        torch.set_num_threads(before)
    for out, gradients in results[1:]:
        assert torch.equal(out, results[0][0])
        assert all(torch.equal(gradients[name], results[0][1][name]) for name in NAMES)


def test_selective_scan_cpu_keeps_no_state_of_every_position():
    batch, channels, length, states = 1, 32, 512, 64
    inputs, kept = make_inputs(batch, channels, length, states), []
    with saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda tensor: tensor):
        selective_scan(**inputs, backend="cpu")
    own_inputs = sum(tensor.numel() for tensor in inputs.values())
    assert sum(kept) - own_inputs <= batch * channels * length
    with torch.no_grad():
        assert not selective_scan(**inputs, backend="cpu").requires_grad


def test_selective_scan_cpu_works_in_several_threads_at_once():
    inputs, results = make_inputs(2, 70, 90, 4), {}
    expected, _ = scan_with_gradients(inputs, backend="cpu")

    def work(i):
        results[i] = scan_with_gradients(inputs, backend="cpu")[0]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(results) == 4
    assert all(torch.equal(out, expected) for out in results.values())


class Scans(torch.utils.data.Dataset):
    """Each item is the output of a scan with gradients, computed in the process that asks for it."""

    def __len__(self):
        return 2

    def __getitem__(self, i):
        return scan_with_gradients(make_inputs(1, 70, 20, 2, seed=i), backend="cpu")[0]


def test_selective_scan_cpu_works_in_forked_data_workers_after_threads_were_used():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        expected = torch.stack([Scans()[i] for i in range(2)])
        loader = torch.utils.data.DataLoader(Scans(), batch_size=2, num_workers=1, multiprocessing_context="fork", timeout=60)
        assert torch.equal(next(iter(loader)), expected)
    finally:
        torch.set_num_threads(before)


def test_selective_scan_logs_its_choice_once(caplog):
    package._log_choice.cache_clear()
    inputs = make_inputs()
    with caplog.at_level(logging.INFO, logger="encoders.selective_scan"):
        default = selective_scan(**inputs)
        selective_scan(**inputs)
    assert [record.getMessage() for record in caplog.records] == ["selective scan on cpu runs with the 'cpu' backend"]
    assert torch.equal(default, selective_scan(**inputs, backend="cpu"))


def test_selective_scan_takes_the_reference_when_tensors_are_elsewhere():
    inputs = {name: tensor.detach().to("meta") for name, tensor in make_inputs().items()}
    assert selective_scan(**inputs).shape == inputs["u"].shape


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("innermost", ["positions", "channels"])
def test_selective_scan_output_can_be_changed_in_place(backend, dtype, innermost):
    inputs = make_inputs(dtype=dtype)
    if innermost == "channels":
        inputs["u"] = inputs["u"].detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()
    expected = torch.autograd.grad((2 * selective_scan(**inputs, backend=backend)).sum(), inputs["u"])[0]
    changed = selective_scan(**inputs, backend=backend).mul_(2)
    assert torch.autograd.grad(changed.sum(), inputs["u"])[0].equal(expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("absent", [(), ("D", "z", "delta_bias")])
def test_selective_scan_over_nothing_is_empty_and_differentiable(backend, reverse, absent):
    inputs = {name: tensor for name, tensor in make_inputs(length=0).items() if name not in absent}
    out = selective_scan(**inputs, delta_softplus=True, reverse=reverse, backend=backend)
    assert out.shape == (2, 5, 0)
    out.sum().backward()
    assert inputs["u"].grad.shape == (2, 5, 0)


def test_selective_scan_fails_when_the_backend_is_unknown():
    with pytest.raises(ValueError, match=r"one of cpu, cuda, reference, triton was expected, 'cuda9' was given(.|\n)*fix:"):
        selective_scan(**make_inputs(), backend="cuda9")


def test_selective_scan_on_a_gpu_prefers_mamba_ssm_then_triton_then_the_reference(monkeypatch):
    for missing, expected in [(None, cuda), ("cuda", triton), ("cuda triton", reference)]:
        for module in (cuda, triton):
            own_name = module.__name__.rpartition(".")[2]
            monkeypatch.setattr(
                module, "missing_package", lambda own=own_name, gone=missing: own if gone and own in gone else None
            )
        assert package._backend(None, on_a_gpu()) is expected


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("absent", [(), ("D", "z", "delta_bias")])
def test_selective_scan_cuda_hands_mamba_ssm_what_its_kernels_take(monkeypatch, reverse, dtype, absent):
    inputs = {name: tensor.detach() for name, tensor in make_inputs().items() if name not in absent}
    inputs = {name: tensor.to(dtype) if name in ("u", "z") else tensor for name, tensor in inputs.items()}

    def selective_scan_fn(u, delta, A, B, C, D, z, delta_bias, delta_softplus):
        """What the package documents: u's precision for the sequences, float32 for the rest, positions innermost."""
        assert {t.dtype for t in (u, delta, B, C, z) if t is not None} == {dtype}
        assert {t.dtype for t in (A, D, delta_bias) if t is not None} == {torch.float32}
        assert all(t.stride(-1) == 1 for t in (u, delta, B, C, z) if t is not None)
        return selective_scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus, backend="reference")

    monkeypatch.setattr(cuda, "_published", lambda: selective_scan_fn)
    named = ScanInputs(**{name: tensor for name, tensor in inputs.items() if name != "z"})
    out = cuda.scan(named, inputs.get("z"), True, reverse)
    expected = selective_scan(**inputs, delta_softplus=True, reverse=reverse, backend="reference")
    torch.testing.assert_close(out, expected, atol=0.05 if dtype == torch.bfloat16 else 1e-6, rtol=0.05)


class OnAGPU(torch.Tensor):
    """Stands in for a tensor on a CUDA device, of which only the place, the shape and the precision are looked at."""

    @property
    def device(self):
        return torch.device("cuda")


def on_a_gpu(states=2, dtype=torch.float32):
    inputs = make_inputs(1, 1, 2, states, dtype)
    return ScanInputs(**{name: tensor.detach().as_subclass(OnAGPU) for name, tensor in inputs.items() if name != "z"})


@pytest.mark.parametrize(("dtype", "states"), [(torch.float64, 2), (torch.float32, 257)])
def test_selective_scan_cuda_refuses_what_its_kernels_cannot_take_and_is_then_not_chosen(monkeypatch, dtype, states):
    inputs = on_a_gpu(states, dtype)
    needs = r"'cuda' needs single or half precision and at most 256 states; these have torch\.float"
    with pytest.raises(ValueError, match=needs):
        package._backend("cuda", inputs)
    monkeypatch.setattr(cuda, "missing_package", lambda: None)
    monkeypatch.setattr(triton, "missing_package", lambda: None)
    assert package._backend(None, inputs) is triton


def test_selective_scan_fails_when_a_backend_lacks_its_package():
    cuda.missing_package.cache_clear()
    with pytest.raises(ImportError, match=r"'cuda' needs the package mamba-ssm(.|\n)*fix: install it, or pass backend=None"):
        package._backend("cuda", on_a_gpu())


def test_selective_scan_fails_when_the_cuda_backend_is_given_tensors_in_main_memory():
    with pytest.raises(ValueError, match=r"'cuda' needs tensors on a CUDA device; these are on cpu"):
        selective_scan(**make_inputs(), backend="cuda")


def test_selective_scan_cuda_says_why_mamba_ssm_cannot_be_imported(monkeypatch):
    def broken():
        raise ImportError("undefined symbol")

    monkeypatch.setattr(cuda.util, "find_spec", lambda name: object())
    monkeypatch.setattr(cuda, "_published", broken)
    cuda.missing_package.cache_clear()
    assert cuda.missing_package() == "a mamba-ssm that can be imported (ImportError: undefined symbol)"
    cuda.missing_package.cache_clear()


@pytest.mark.parametrize("backend", ["cuda", "triton"])
def test_selective_scan_fails_when_a_gpu_backend_is_given_tensors_elsewhere(backend):
    inputs = {name: tensor.detach().to("meta") for name, tensor in make_inputs().items()}
    with pytest.raises(ValueError, match=rf"backend '{backend}' needs tensors on a CUDA device(.|\n)*these are on meta"):
        selective_scan(**inputs, backend=backend)


def test_selective_scan_triton_compiles_for_a_gpu_that_is_not_there(tmp_path):
    root = Path(encoders.__file__).parents[1]
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(root)}
    script = Path(__file__).with_name("compile_triton_kernels.py")
    ran = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["tile_states", "pass_states", "tile_outputs", "tile_adjoints", "tile_gradients"] * 2


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["triton", "cuda"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("reverse", [False, True])
def test_selective_scan_on_a_gpu_equals_the_reference(backend, dtype, reverse):
    if backend == "cuda" and cuda.missing_package():
        pytest.skip(f"needs {cuda.missing_package()}")
    inputs = {name: tensor.detach().cuda() for name, tensor in make_inputs(2, 70, 333, 16).items()}
    inputs = {name: tensor.to(dtype) if name in SEQUENCES else tensor for name, tensor in inputs.items()}
    exact = {name: tensor.double() for name, tensor in inputs.items()}
    expected_out, expected = scan_with_gradients(exact, delta_softplus=True, reverse=reverse, backend="reference")
    out, gradients = scan_with_gradients(inputs, delta_softplus=True, reverse=reverse, backend=backend)
    tolerance = 5e-5 if dtype == torch.float32 else 2e-2
    assert (out.double() - expected_out).abs().max() <= tolerance * expected_out.abs().max()
    for name, gradient in gradients.items():
        assert (gradient.double() - expected[name]).abs().max() <= tolerance * expected[name].abs().max(), name


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bidirectional_scan_on_a_gpu_equals_the_reference(dtype):
    ways = [make_inputs(2, 70, 333, 16, dtype, seed) for seed in (0, 1)]
    ways = [{name: tensor.detach().cuda().requires_grad_() for name, tensor in way.items() if name != "z"} for way in ways]
    z = torch.randn(2, 70, 333, dtype=dtype, device="cuda", requires_grad=True)
    tensors, results = [*ways[0].values(), *ways[1].values(), z], {}
    for backend in ("reference", "triton"):
        out = bidirectional_scan(*(ScanInputs(**way) for way in ways), z, delta_softplus=True, backend=backend)
        results[backend] = [out, *torch.autograd.grad(out, tensors, torch.ones_like(out))]
    tolerance = 5e-5 if dtype == torch.float32 else 2e-2
    for got, expected in zip(results["triton"], results["reference"], strict=True):
        assert (got - expected).abs().max() <= tolerance * expected.abs().max()


def test_selective_scan_fails_when_the_cpu_backend_cannot_reach_the_tensors():
    inputs = {name: tensor.detach().to("meta") for name, tensor in make_inputs().items()}
    with pytest.raises(ValueError, match=r"needs tensors in main memory; these are on meta"):
        selective_scan(**inputs, backend="cpu")


def test_selective_scan_fails_when_u_or_A_has_the_wrong_number_of_axes():
    with pytest.raises(ValueError, match=r"u \(B, D, L\) and A \(D, N\) were expected, got u \(5, 7\)"):
        selective_scan(**{**make_inputs(), "u": torch.zeros(5, 7)})


def test_selective_scan_lists_every_shape_that_does_not_fit():
    with pytest.raises(ValueError, match=r"B \(2, 3, 7\) was expected, got \(2, 4, 7\); D \(5,\) was expected, got \(6,\)"):
        selective_scan(**{**make_inputs(), "B": torch.zeros(2, 4, 7), "D": torch.zeros(6)})


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["u", "A", "z"])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64])
def test_selective_scan_fails_when_a_tensor_is_no_real_float(backend, name, dtype):
    inputs = {key: tensor.detach() for key, tensor in make_inputs().items()}
    with pytest.raises(ValueError, match=rf": {name} {dtype}, a real float was expected\.\n  fix:"):
        selective_scan(**{**inputs, name: inputs[name].to(dtype)}, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_selective_scan_fails_when_tensors_are_on_several_devices(backend):
    inputs = {key: tensor.detach() for key, tensor in make_inputs().items()}
    with pytest.raises(ValueError, match=r": B on meta, u is on cpu; D on meta, u is on cpu\.\n  fix:"):
        selective_scan(**{**inputs, "B": inputs["B"].to("meta"), "D": inputs["D"].to("meta")}, backend=backend)
