"""A filter program over signatures and columns in Triton, a tile of words of 64 items at a time.

As in kernels/cpp/filter/evaluator.h a program runs twice over a tile: over the signature with pairs of sets, of which
`sure` holds no item that fails and `maybe` every one that passes; then, only where these differ, over what lies
between, where terms read the columns. The set on top is held in registers, the stack beneath it in scratch memory, so
that programs may be as long as they like.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from meshfold.kernels.filter.steps import STEP, FilterBatch, FilterTensors, Op
from meshfold.kernels.gpu.common import below
from meshfold.kernels.gpu.launch import Compilation, Launch, on

# One word a thread, so that every thread finds in scratch memory what it put there.
_WARPS = 8
_BLOCK = 32 * _WARPS
# Items of each word whose columns are read together.
_ITEMS = 4
# Programs that run at a time, at most, and what scratch memory they may take.
_PROGRAMS = 2048
_SCRATCH_BYTES = 256 << 20

_NOOP, _CONSTANT, _MATCH, _PLANE = (
    tl.constexpr(int(op)) for op in (Op.NOOP, Op.CONSTANT, Op.MATCH, Op.PLANE)
)
_RANGE, _EXISTS, _AND, _OR = (tl.constexpr(int(op)) for op in (Op.RANGE, Op.EXISTS, Op.AND, Op.OR))
_NOT, _AT_LEAST = (tl.constexpr(int(op)) for op in (Op.NOT, Op.AT_LEAST))
_STEP = tl.constexpr(STEP)


@triton.jit
def _row(signature, at, row, there):
    return tl.load(signature + at + row * 8, mask=there, other=0)


@triton.jit
def _any_value(signature, at, there, value_rows, first, count, S):
    """Items that have all S rows of some value."""
    found = tl.zeros_like(at)
    for v in range(count):
        both = tl.zeros_like(at) - 1
        for s in range(S):
            both &= _row(signature, at, tl.load(value_rows + (first + v) * S + s), there)
        found |= both
    return found


@triton.jit
def load_values(column, width, at, mask):
    """Of a column of 4 or 8 bytes a value, as int64."""
    if width == 4:
        held = tl.load(column.to(tl.pointer_type(tl.int32)) + at, mask=mask, other=0).to(tl.int64)
    else:
        held = tl.load(column.to(tl.pointer_type(tl.int64)) + at, mask=mask, other=0)
    return held


@triton.jit
def _wanted(held, values, first, count, is_range):
    """Whether each value lies between the two, or is any of those, that a term names."""
    if is_range:
        hit = (held >= tl.load(values + first)) & (held <= tl.load(values + first + 1))
    else:
        hit = held != held
        for v in range(count):
            hit |= held == tl.load(values + first + v)
    return hit


@triton.jit
def _is_sound(steps, value_rows, offsets, L, F, V, S, R):
    """Whether steps are a program: known opcodes, fields, values and rows that exist, one set left in the end."""
    depth = 0
    wrong = 0
    for i in range(L):
        op = tl.load(steps + i * _STEP)
        x, y = tl.load(steps + i * _STEP + 1), tl.load(steps + i * _STEP + 2)
        z = tl.load(steps + i * _STEP + 3)
        wrong += ((op < _NOOP) | (op > _AT_LEAST)).to(tl.int32)
        if (op >= _CONSTANT) & (op <= _EXISTS):
            depth += 1
        if (op >= _MATCH) & (op <= _EXISTS):
            is_field = (x >= 0) & (x < F)
            wrong += 1 - is_field.to(tl.int32)
            if op == _RANGE:
                many = tl.load(offsets + tl.where(is_field, x, 0)) != 0
                wrong += ((y < 0) | (y > V - 2) | many).to(tl.int32)
            elif op != _EXISTS:
                there = (z >= 0) & (z <= V) & (y >= 0) & (y <= V - z) & ((S > 0) | (z == 0))
                wrong += 1 - there.to(tl.int32)
                for at in range(tl.where(there, y, 0) * S, tl.where(there, y + z, 0) * S):
                    row = tl.load(value_rows + at)
                    wrong += ((row < 0) | (row >= R)).to(tl.int32)
        elif (op == _AND) | (op == _OR):
            wrong += (depth < 2).to(tl.int32)
            depth -= 1
        elif op == _NOT:
            wrong += (depth < 1).to(tl.int32)
        elif op == _AT_LEAST:
            sets = tl.where((x >= 0) & (x <= depth), x, -1).to(tl.int32)
            wrong += (sets < 0).to(tl.int32)
            depth += 1 - tl.maximum(sets, 0)
    return (wrong == 0) & (depth == 1)


@triton.jit
def _by_columns(
    candidates, word, column, offsets, width, values, first, count, is_range, ITEMS: tl.constexpr
):
    """Those of the candidates, bits of words, whose values pass a term."""
    passing = tl.zeros_like(candidates)
    for start in range(0, 64, ITEMS):
        bit = start + tl.arange(0, ITEMS).to(tl.int64)[None, :]
        asked = ((candidates[:, None] >> bit) & 1) != 0
        item = word[:, None] * 64 + bit
        if offsets == 0:
            hit = asked & _wanted(load_values(column, width, item, asked), values, first, count, is_range)
        else:
            table = offsets.to(tl.pointer_type(tl.int64))
            begin = tl.load(table + item, mask=asked, other=0)
            end = tl.load(table + item + 1, mask=asked, other=0)
            hit = asked & (begin != begin)
            longest = tl.max(end - begin)
            for j in range(longest):
                there = begin + j < end
                hit |= there & _wanted(
                    load_values(column, width, begin + j, there), values, first, count, is_range
                )
        passing |= tl.sum(hit.to(tl.int64) << bit, 1)
    return passing


@triton.jit
def _at_least(stack, planes, lane, sets, least, bits, stride, BLOCK: tl.constexpr):
    """Items in at least `least` of the `sets` that lie in stack, `stride` apart. Counts are bit-sliced: plane i holds
    bit i of each item's count; sets < 2^bits."""
    for i in range(bits):
        tl.store(planes + i * BLOCK + lane, tl.zeros_like(lane).to(tl.int64))
    for s in range(sets):
        tl.debug_barrier()
        carry = tl.load(stack + s * stride + lane)
        for i in range(bits):
            plane = tl.load(planes + i * BLOCK + lane)
            tl.debug_barrier()
            tl.store(planes + i * BLOCK + lane, plane ^ carry)
            carry = plane & carry
    tl.debug_barrier()
    # From the highest bit down: greater so far, or equal so far.
    greater = tl.zeros_like(lane).to(tl.int64)
    equal = greater - 1
    for down in range(bits):
        i = bits - 1 - down
        plane = tl.load(planes + i * BLOCK + lane)
        if (least >> i) & 1 == 1:
            equal &= plane
        else:
            greater |= equal & plane
            equal &= ~plane
    tl.debug_barrier()
    met = greater | equal
    met = tl.where(least > sets, tl.zeros_like(met), met)
    return tl.where(least <= 0, tl.zeros_like(met) - 1, met)


@triton.jit(do_not_specialize=["n", "words", "R", "F", "b", "L", "V", "S", "tiles", "slots", "bits"])
def _filter_kernel(
    signature, columns, offsets, widths, steps, values, value_rows, wanted, scratch, out,
    n, words, R, F, b, L, V, S, tiles, slots, bits,
    BLOCK: tl.constexpr,
    ITEMS: tl.constexpr,
):  # fmt: skip
    lane = tl.arange(0, BLOCK)
    stack = scratch + tl.program_id(0).to(tl.int64) * slots * BLOCK
    planes = stack + 2 * (L + 1) * BLOCK
    # Queries that look at the same tile follow one another, so that it is read from memory once.
    for work in range(tl.program_id(0), tiles * b, tl.num_programs(0)):
        query = (work % b).to(tl.int64)
        word = (work // b).to(tl.int64) * BLOCK + lane
        there = word < words
        passed = tl.zeros_like(word)
        if tl.load(wanted + query) != 0:
            at = (word // 8 * R) * 8 + word % 8
            own_steps, own_values = steps + query * L * _STEP, values + query * V
            own_rows = value_rows + query * V * S
            sure, maybe = tl.zeros_like(word), tl.zeros_like(word)
            depth = 0
            # What is no program passes no item, and reads nothing that is not there.
            sound = _is_sound(own_steps, own_rows, offsets, L, F, V, S, R)
            for i in range(tl.where(sound, L, 0)):
                op = tl.load(own_steps + i * _STEP)
                x, y = tl.load(own_steps + i * _STEP + 1), tl.load(own_steps + i * _STEP + 2)
                z = tl.load(own_steps + i * _STEP + 3)
                if (op >= _CONSTANT) & (op <= _EXISTS):
                    tl.store(stack + 2 * depth * BLOCK + lane, sure)
                    tl.store(stack + (2 * depth + 1) * BLOCK + lane, maybe)
                    depth += 1
                    if op == _CONSTANT:
                        maybe = tl.zeros_like(word) - (x != 0).to(tl.int64)
                        sure = maybe
                    elif (op == _MATCH) | (op == _PLANE):
                        maybe = _any_value(signature, at, there, own_rows, y, z, S)
                        sure = tl.where(op == _PLANE, maybe, tl.zeros_like(word))
                    else:
                        maybe = _row(signature, at, x, there)
                        sure = tl.where(op == _EXISTS, maybe, tl.zeros_like(word))
                elif (op == _AND) | (op == _OR):
                    depth -= 1
                    tl.debug_barrier()
                    other_sure = tl.load(stack + 2 * depth * BLOCK + lane)
                    other_maybe = tl.load(stack + (2 * depth + 1) * BLOCK + lane)
                    tl.debug_barrier()
                    sure = tl.where(op == _AND, sure & other_sure, sure | other_sure)
                    maybe = tl.where(op == _AND, maybe & other_maybe, maybe | other_maybe)
                elif op == _NOT:
                    was = sure
                    sure = ~maybe
                    maybe = ~was
                elif op == _AT_LEAST:
                    # The operand on top joins the others.
                    tl.store(stack + 2 * depth * BLOCK + lane, sure)
                    tl.store(stack + (2 * depth + 1) * BLOCK + lane, maybe)
                    sets = x.to(tl.int32)
                    depth = depth + 1 - sets
                    begin = stack + 2 * depth * BLOCK
                    sure = _at_least(begin, planes, lane, sets, y, bits, 2 * BLOCK, BLOCK)
                    maybe = _at_least(begin + BLOCK, planes, lane, sets, y, bits, 2 * BLOCK, BLOCK)
                    # What lay beneath the operands is still there; of no operands, the set on top was none of them.
            exist = below(tl.minimum(tl.maximum(n - word * 64, 0), 64))
            passed = sure & exist
            matter = maybe & ~sure & exist
            if tl.max((matter != 0).to(tl.int32)) != 0:
                tl.debug_barrier()
                top = tl.zeros_like(word)
                depth = 0
                for i in range(L):
                    op = tl.load(own_steps + i * _STEP)
                    x, y = tl.load(own_steps + i * _STEP + 1), tl.load(own_steps + i * _STEP + 2)
                    z = tl.load(own_steps + i * _STEP + 3)
                    if (op >= _CONSTANT) & (op <= _EXISTS):
                        tl.store(stack + depth * BLOCK + lane, top)
                        depth += 1
                        if op == _CONSTANT:
                            top = tl.zeros_like(word) - (x != 0).to(tl.int64)
                        elif op == _PLANE:
                            top = _any_value(signature, at, there, own_rows, y, z, S)
                        elif op == _EXISTS:
                            top = _row(signature, at, x, there)
                        else:
                            many = tl.load(offsets + x)
                            top = matter
                            if op == _MATCH:
                                top &= _any_value(signature, at, there, own_rows, y, z, S)
                            if many == 0:
                                # A column of one value holds some integer for an item without the field, too.
                                top &= _row(signature, at, x, there)
                            column, width = tl.load(columns + x), tl.load(widths + x)
                            top = _by_columns(
                                top, word, column, many, width, own_values, y, z, op == _RANGE, ITEMS
                            )
                    elif (op == _AND) | (op == _OR):
                        depth -= 1
                        tl.debug_barrier()
                        other = tl.load(stack + depth * BLOCK + lane)
                        tl.debug_barrier()
                        top = tl.where(op == _AND, top & other, top | other)
                    elif op == _NOT:
                        top = ~top
                    elif op == _AT_LEAST:
                        tl.store(stack + depth * BLOCK + lane, top)
                        sets = x.to(tl.int32)
                        depth = depth + 1 - sets
                        top = _at_least(stack + depth * BLOCK, planes, lane, sets, y, bits, BLOCK, BLOCK)
                passed |= top & matter
            tl.debug_barrier()
        tl.store(out + query * words + word, passed, mask=there)


# By signature, so that tables live as long as the tensors that they point at, and any CUDA graph over these.
_tables: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def field_tables(filter_: FilterTensors) -> tuple[Tensor, Tensor, Tensor]:
    """columns, offsets: [F] int64 - addresses of each field's tensors, 0 for no offsets. widths: [F] int64 - bytes of a
    column's value. Copied to the device when they are first asked for: not while a CUDA graph is captured."""
    pointers = (
        tuple(c.data_ptr() for c in filter_.columns),
        tuple(o.data_ptr() if o.numel() else 0 for o in filter_.offsets),
        tuple(c.element_size() for c in filter_.columns),
    )
    held = _tables.setdefault(filter_.signature, {})
    if pointers not in held:
        device = filter_.signature.device
        held[pointers] = tuple(torch.tensor(row, dtype=torch.int64, device=device) for row in pointers)
    columns, offsets, widths = held[pointers]
    return columns, offsets, widths


def filter_bits(filter_: FilterTensors, filters: FilterBatch, needed: Tensor, items: int) -> Tensor:
    """[B, G, 8] int64 - the items that pass and are not excluded; no items where `needed` is False."""
    signature = filter_.signature
    device, (bundles, rows, width) = signature.device, signature.shape
    b, length, _ = filters.steps.shape
    words = bundles * width
    out = torch.empty((b, bundles, width), dtype=torch.int64, device=device)
    if not out.numel():
        return out
    tiles, bits = triton.cdiv(words, _BLOCK), length.bit_length()
    # Pairs of sets on the stack, then the planes in which they are counted.
    slots = 2 * (length + 1) + bits
    running = max(1, min(tiles * b, _PROGRAMS, _SCRATCH_BYTES // (slots * _BLOCK * 8)))
    scratch = torch.empty(running * slots * _BLOCK, dtype=torch.int64, device=device)
    launch = _launch()
    with on(signature):
        _filter_kernel[(running,)](
            signature.contiguous(),
            *field_tables(filter_),
            filters.steps.contiguous(),
            filters.values.contiguous(),
            filters.value_rows.contiguous(),
            needed.to(torch.int8),
            scratch,
            out,
            *(
                items,
                words,
                rows,
                len(filter_.columns),
                b,
                length,
                filters.values.shape[1],
                filters.value_rows.shape[2],
            ),
            *(tiles, slots, bits),
            **launch.options(),
        )
    return _without(out, filters.excluded)


def _without(bits: Tensor, excluded: Tensor) -> Tensor:
    """bits less the excluded positions: [B, E] int64, -1 for nothing, in place."""
    if not excluded.numel():
        return bits
    ordered = torch.sort(excluded, 1).values
    repeated = torch.zeros_like(ordered, dtype=torch.bool)
    repeated[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    words = bits.shape[1] * bits.shape[2]
    named = (ordered >= 0) & (ordered < 64 * words) & ~repeated
    word = (ordered >> 6).clamp(0, words - 1)
    bit = torch.ones_like(ordered) << (ordered & 63)
    held = bits.flatten(1)
    # Distinct positions have distinct bits, so that to subtract those that are set is to clear them, in any order.
    taken = torch.where(named, held.gather(1, word) & bit, 0)
    held.scatter_add_(1, word, -taken)
    return bits


def _launch() -> Launch:
    return Launch({"BLOCK": _BLOCK, "ITEMS": _ITEMS}, num_warps=_WARPS)


def compilations() -> list[Compilation]:
    arguments = {
        "*i64": "signature columns offsets widths steps values value_rows scratch out",
        "*i8": "wanted",
        "i64": "n",
        "i32": "words R F b L V S tiles slots bits",
    }
    return [_launch().compilation("filter program", _filter_kernel, arguments)]
