"""Compiles the scan's Triton kernels for a GPU (compute capability 9.0), which need not be there; prints their names."""

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from encoders.selective_scan import triton_kernels
from encoders.selective_scan.triton import CHANNELS, GRADIENT_WARPS, TILE, WARPS

SIZES = {"TILE": TILE, "CHANNELS": CHANNELS, "STATES": 16, "ACC": tl.float32, "REVERSE": False, "BACKWARD": True}
HALVES = ("u0", "u1", "delta0", "delta1", "B0", "B1", "C0", "C1", "z", "grad_out")
SINGLES = ("A0", "A1", "D0", "D1", "bias0", "bias1", "states", "sums", "out", "adjoints")


def compile_kernel(kernel, present: bool) -> None:
    """With D, z, delta_bias and softplus, or without."""
    flags = {**SIZES, **dict.fromkeys(("HAS_D", "HAS_BIAS", "HAS_Z", "SOFTPLUS"), present)}
    signature, constants = {}, {}
    for i, parameter in enumerate(kernel.params):
        name = parameter.name
        if parameter.is_constexpr or (not present and name in ("D0", "D1", "bias0", "bias1", "z")):
            signature[name], constants[(i,)] = "constexpr", flags.get(name)
        elif name in HALVES:
            signature[name] = "*bf16"
        else:
            signature[name] = "*fp32" if name in SINGLES or name.startswith("grad_") else "i32"
    warps = GRADIENT_WARPS if kernel is triton_kernels.tile_gradients else WARPS
    source = ASTSource(kernel, signature, constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps})
    assert compiled.asm["cubin"]
    print(kernel.__name__)


if __name__ == "__main__":
    for present in (True, False):
        for name in ("tile_states", "pass_states", "tile_outputs", "tile_adjoints", "tile_gradients"):
            compile_kernel(getattr(triton_kernels, name), present)
