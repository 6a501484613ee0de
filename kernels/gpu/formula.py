"""kernels/value/formula.py in Triton: a program runs one query's steps over a tile of its candidates.

The stack lies in scratch memory, a row a place: how deep it gets is known to the steps alone, which the host never
reads. Every operation is rounded by itself, as the reference's are.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from meshfold.kernels.gpu.common import round_even
from meshfold.kernels.gpu.launch import Compilation, Launch, on


@triton.jit
def _within(x):
    return tl.minimum(tl.maximum(x, -3.4028234663852886e38), 3.4028234663852886e38)


@triton.jit
def _finite(x):
    return _within(tl.where(x != x, 0.0, x))


@triton.jit
def _exp(x):
    inside = tl.minimum(tl.maximum(x, -700.0), 100.0)
    # 1 / ln 2 as the reference computes it.
    k = round_even(inside * 1.4426950408889634)
    high = inside - k * 6.93147180369123816490e-01
    low = k * 1.90821492927058770002e-10
    r = high - low
    t = r * r
    p = 4.13813679705723846039e-08 + t * 0.0
    p = -1.65339022054652515390e-06 + t * p
    p = 6.61375632143793436117e-05 + t * p
    p = -2.77777777770155933842e-03 + t * p
    p = 1.66666666666666019037e-01 + t * p
    c = r - t * p
    grown = 1.0 - ((low - (r * c) / (2.0 - c)) - high)
    power = ((k.to(tl.int64) + 1023) << 52).to(tl.float64, bitcast=True)
    return _within(tl.where(x < -700.0, 0.0, grown * power))


@triton.jit
def _log(x):
    positive = x > 0
    y = tl.where(positive, x, 1.0)
    # Subnormal numbers have no exponent of their own until they are scaled.
    tiny = y < 2.2250738585072014e-308
    bits = tl.where(tiny, y * 18014398509481984.0, y).to(tl.int64, bitcast=True)
    exponent = (bits >> 52) - 1022 - tl.where(tiny, 54, 0)
    mantissa = ((bits & 0xFFFFFFFFFFFFF) | 0x3FE0000000000000).to(tl.float64, bitcast=True)
    small = mantissa < 0.7071067811865476
    f = tl.where(small, mantissa + mantissa, mantissa) - 1.0
    k = exponent.to(tl.float64) - small.to(tl.float64)
    s = f / (2.0 + f)
    z = s * s
    p = 1.479819860511658591e-01 + z * 0.0
    p = 1.531383769920937332e-01 + z * p
    p = 1.818357216161805012e-01 + z * p
    p = 2.222219843214978396e-01 + z * p
    p = 2.857142874366239149e-01 + z * p
    p = 3.999999999940941908e-01 + z * p
    p = 6.666666666666735130e-01 + z * p
    rest = z * p
    half = f * f * 0.5
    whole = k * 6.93147180369123816490e-01 - (
        (half - (s * (half + rest) + k * 1.90821492927058770002e-10)) - f
    )
    return tl.where(positive, whole, 0.0)


@triton.jit(do_not_specialize=["length", "c", "v", "m", "depth"])
def _value_kernel(steps, constants, operands, stack, out, length, c, v, m, depth, BLOCK: tl.constexpr):
    tiles = tl.cdiv(m, BLOCK)
    b = (tl.program_id(0) // tiles).to(tl.int64)
    place = (tl.program_id(0) % tiles).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = place < m
    own = stack + b * depth * m + place
    held = length * 0
    broken = length * 0
    for step in range(length):
        op = tl.load(steps + (b * length + step) * 2)
        at = tl.load(steps + (b * length + step) * 2 + 1)
        if op != 0:
            takes = tl.where(op <= 2, 0, tl.where(op <= 7, 1, tl.where(op == 22, 3, 2)))
            limit = tl.where(op == 1, c, v)
            known = (op > 0) & (op <= 22) & (held >= takes)
            known = known & ((op > 2) | ((at >= 0) & (at < limit)))
            broken += tl.where(known, 0, 1)
            if broken == 0:
                first = held - takes
                result = tl.zeros([BLOCK], tl.float64)
                if op == 1:
                    result = _finite(result + tl.load(constants + b * c + at))
                elif op == 2:
                    result = _finite(tl.load(operands + (b * v + at) * m + place, mask=there, other=0.0))
                else:
                    x = tl.load(own + first * m, mask=there, other=0.0)
                    y = x
                    if takes > 1:
                        y = tl.load(own + (first + 1) * m, mask=there, other=0.0)
                    if op == 3:
                        result = -x
                    elif op == 4:
                        result = 1.0 - x
                    elif op == 5:
                        result = tl.sqrt(tl.where(x > 0, x, 0.0))
                    elif op == 6:
                        result = _exp(x)
                    elif op == 7:
                        result = _log(x)
                    elif op == 8:
                        result = _within(x + y)
                    elif op == 9:
                        result = _within(x - y)
                    elif (op == 10) | (op == 20):
                        result = _within(x * y)
                    elif op == 11:
                        result = _within(tl.where(y != 0, x / tl.where(y != 0, y, 1.0), 0.0))
                    elif op == 12:
                        result = tl.where(y < x, y, x)
                    elif (op == 13) | (op == 21):
                        result = tl.where(y > x, y, x)
                    elif op == 14:
                        result = (x == y).to(tl.float64)
                    elif op == 15:
                        result = (x != y).to(tl.float64)
                    elif op == 16:
                        result = (x < y).to(tl.float64)
                    elif op == 17:
                        result = (x <= y).to(tl.float64)
                    elif op == 18:
                        result = (x > y).to(tl.float64)
                    elif op == 19:
                        result = (x >= y).to(tl.float64)
                    else:
                        z = tl.load(own + (first + 2) * m, mask=there, other=0.0)
                        result = tl.where(x != 0, y, z)
                # What one thread stores another may load where the compiler lays them out differently.
                tl.debug_barrier()
                tl.store(own + first * m, result, mask=there)
                tl.debug_barrier()
                held = first + 1
    answer = tl.zeros([BLOCK], tl.float64)
    if (broken == 0) & (held == 1):
        answer = tl.load(own, mask=there, other=0.0)
    tl.store(out + b * m + place, answer.to(tl.float32) + 0.0, mask=there)


def _launch() -> Launch:
    return Launch({"BLOCK": 512}, num_warps=4)


def formula_gpu(steps: Tensor, constants: Tensor, operands: Tensor) -> Tensor:
    """As the reference, except that a program which it would refuse gives 0: the host does not see the steps."""
    (b, length, _), (v, m) = steps.shape, operands.shape[1:]
    out = torch.empty((b, m), dtype=torch.float32, device=operands.device)
    if not out.numel():
        return out
    # Each step leaves one number at most, so that no stack is deeper than the program is long.
    depth = max(length, 1)
    stack = torch.empty((b, depth, m), dtype=torch.float64, device=operands.device)
    launch = _launch()
    with on(operands):
        _value_kernel[(b * triton.cdiv(m, launch.constexprs["BLOCK"]),)](
            steps.contiguous(),
            constants.contiguous(),
            operands.contiguous(),
            stack,
            out,
            length,
            constants.shape[1],
            v,
            m,
            depth,
            **launch.options(),
        )
    return out


def compilations() -> list[Compilation]:
    arguments = {
        "*i64": "steps",
        "*fp64": "constants operands stack",
        "*fp32": "out",
        "i64": "length c v m depth",
    }
    return [_launch().compilation("value_program", _value_kernel, arguments)]
