"""A chain of linear layers in integers: each layer maps x to x W^T + b, or to max(0, x W^T + b).

Each row of a layer's inputs is quantized to integers with a scale of its own and multiplied with int8 weights. Sums are
exact:

    total[m] = sum over j of x[j] * w[m, j]        y[m] = float32(total[m]) * (scale_x * scale_w[m]) + b[m]

The first layer has several inputs, called parts, whose columns are concatenated. Each part has its own scales in rows
and in weights; the terms of the parts are added in order, then b. peak is the largest magnitude of a part's row. The
integer x[j] and scale_x of each kind of input:

- int8 codes as an index stores them: the code; peak / 127.
- floats: the code of round(x * (32512 / peak)) (kernels/vectors/quantize.py), so that the floats of a stored vector
  give its codes; peak / 127.
- floats of at most 16 columns, such as similarities: round(x * (32512 / peak)) itself; peak / 32512.
- outputs of a layer with max(0, .): round(x * (255 / peak)); peak / 255.

A row with all magnitudes below 2^-100 counts as zeros; a row with NaN or infinity gives NaN. Every float step is one
correctly rounded float32 operation, multiply and add apart, so that every device and batch gives the same bytes.

On one core of a Zen 4 the layers of an OverArch (2,048 rows of 128 and 2 values through 256, 128, 64 and 2) take 1.1
ms, and 2.8 ms in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from meshfold.kernels.layers.layers import Call
from meshfold.kernels.layers.weights_int8 import (
    WEIGHT_PEAK,
    factor_of,
    packed_width,
    rounded,
    scale_of,
    unpacked,
)
from meshfold.kernels.native import library
from meshfold.kernels.operation import Operation
from meshfold.kernels.vectors.quantize import FINE_MAX

MOST_COLUMNS = 65_536
# Most columns of an input of floats that is quantized to 16 bits.
FINE_COLUMNS = 16
_POSITIVE_PEAK = 255.0
# Most columns whose products float32 adds exactly: 255 * 127 * 512 < 2^24.
_EXACT_COLUMNS = 512


def layers_int8_reference(
    inputs: list[Tensor],
    peaks: list[Tensor | None],
    weights: list[Tensor],
    biases: list[Tensor | None],
    relus: list[bool],
) -> Tensor:
    """The output of the last layer: [..., M] float32. All native levels give the same bytes. Has no gradients.

    inputs: [..., N] each, the parts of x: float32, or int8 codes. peaks: for each input [...] float32, or None for
    floats. weights, biases, relus: one for each layer. weights: packed by kernels/layers/weights_int8.py; the first
    layer has one part for each input, others have one part. biases: [M] float32 or None. relus: whether negative
    outputs become 0. Raises ValueError for sizes that do not fit.
    """
    _check(inputs, peaks, weights, biases)
    parts = [_signed(x, peak) for x, peak in zip(inputs, peaks, strict=True)]
    x = inputs[0]
    for layer, (packed, bias, relu) in enumerate(zip(weights, biases, relus, strict=True)):
        if layer:
            parts = [_positive(x) if relus[layer - 1] else _signed(x, None, fine=False)]
        codes, weight_peaks = unpacked(packed, len(parts))
        at = 0
        for part, (integers, low, scale) in enumerate(parts):
            columns = integers.shape[-1]
            own = codes[:, at : at + columns]
            total = _total(integers, own)
            if low is not None:
                total = 256 * total + _total(low, own)
            both_scales = scale.unsqueeze(-1) * scale_of(weight_peaks[:, part], WEIGHT_PEAK)
            term = total.float() * both_scales
            x = term if part == 0 else x + term
            at += columns
        # Adding 0 turns -0 into 0.
        x = x + (0.0 if bias is None else bias + 0.0)
        x = torch.where(x < 0, 0.0, x) if relu else x
    return x


def _signed(x: Tensor, peak: Tensor | None, fine: bool = True) -> tuple[Tensor, Tensor | None, Tensor]:
    """Quantizes a part: (codes: [..., N], residuals of 16-bit values or None, scale: [...] float32). peak: None for
    floats. fine: whether a narrow part keeps 16 bits."""
    if peak is not None:
        return x, None, scale_of(peak, WEIGHT_PEAK)
    peak = x.abs().amax(-1)
    whole = rounded(x, factor_of(peak, float(FINE_MAX)))
    codes = torch.floor((whole + 128) / 256)
    if fine and x.shape[-1] <= FINE_COLUMNS:
        return codes, whole - 256 * codes, scale_of(peak, float(FINE_MAX))
    return codes, None, scale_of(peak, WEIGHT_PEAK)


def _positive(x: Tensor) -> tuple[Tensor, None, Tensor]:
    """Quantizes outputs of a layer with max(0, .); the same tuple as _signed()."""
    peak = x.abs().amax(-1)
    return rounded(x, factor_of(peak, _POSITIVE_PEAK)), None, scale_of(peak, _POSITIVE_PEAK)


def _total(integers: Tensor, codes: Tensor) -> Tensor:
    """Exact sums of products: [..., M] int32. integers: [..., N] of any dtype, codes: [M, N]."""
    parts = zip(
        torch.split(integers, _EXACT_COLUMNS, -1), torch.split(codes, _EXACT_COLUMNS, -1), strict=True
    )
    totals = [(x.float() @ w.float().T).to(torch.int32) for x, w in parts]
    return totals[0] if len(totals) == 1 else torch.stack(totals).sum(0, dtype=torch.int32)


layers_int8 = Operation("layers_int8", layers_int8_reference)


@layers_int8.register_native
def _(
    inputs: list[Tensor],
    peaks: list[Tensor | None],
    weights: list[Tensor],
    biases: list[Tensor | None],
    relus: list[bool],
) -> Tensor:
    _check(inputs, peaks, weights, biases)
    shape = inputs[0].shape[:-1]
    call = Call(shape.numel(), inputs, weights, biases, relus)
    call.inputs = [x.contiguous() if x.dtype == torch.int8 else x for x in call.inputs]
    own_peaks = [None if peak is None else peak.contiguous() for peak in peaks]
    out = torch.empty((*shape, weights[-1].shape[0]), dtype=torch.float32)
    library.call(
        "layers_int8",
        *(call.addresses(call.inputs), call.addresses(own_peaks), *call.rest(), out, library.threads()),
    )
    return out


@layers_int8.register_fake
def _(
    inputs: list[Tensor],
    peaks: list[Tensor | None],
    weights: list[Tensor],
    biases: list[Tensor | None],
    relus: list[bool],
) -> Tensor:
    return inputs[0].new_empty((*inputs[0].shape[:-1], weights[-1].shape[0]), dtype=torch.float32)


def _check(
    inputs: list[Tensor], peaks: list[Tensor | None], weights: list[Tensor], biases: list[Tensor | None]
) -> None:
    """Raises ValueError for inputs by which memory would be read past its end, or a sum could overflow."""
    if not inputs or len(peaks) != len(inputs):
        raise ValueError(f"every input needs a peak or None, got {len(inputs)} inputs and {len(peaks)} peaks")
    shape, columns = inputs[0].shape[:-1], [x.shape[-1] for x in inputs]
    for x, peak in zip(inputs, peaks, strict=True):
        dtype = torch.float32 if peak is None else torch.int8
        if x.dtype != dtype or x.shape[:-1] != shape:
            raise ValueError(
                f"inputs must be {[*shape, 'N']} {dtype} {'without' if peak is None else 'with'} peaks, got"
                f" {list(x.shape)} {x.dtype}"
            )
        if peak is not None and (peak.dtype != torch.float32 or peak.shape != shape):
            raise ValueError(f"peaks must be {list(shape)} float32, got {list(peak.shape)} {peak.dtype}")
    for packed, bias in zip(weights, biases, strict=True):
        if not 1 <= min(columns) <= sum(columns) <= MOST_COLUMNS:
            raise ValueError(f"layers must be 1 to {MOST_COLUMNS:,} wide, got inputs of {columns}")
        if packed.dtype != torch.int8 or packed.dim() != 2 or packed.shape[1] != packed_width(columns):
            raise ValueError(
                f"weights must be [M, {packed_width(columns)}] int8, got {list(packed.shape)} {packed.dtype}"
            )
        outputs = packed.shape[0]
        if bias is not None and (bias.dtype != torch.float32 or bias.shape != (outputs,)):
            raise ValueError(f"bias must be [{outputs}] float32, got {list(bias.shape)} {bias.dtype}")
        columns = [outputs]
    if not 1 <= columns[0] <= MOST_COLUMNS:
        raise ValueError(f"layers must be 1 to {MOST_COLUMNS:,} wide, got {columns[0]} outputs")


# The operator in exported graphs.
LAYERS_INT8 = torch.ops.meshfold.layers_int8.default
