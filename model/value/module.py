"""The value model as a torch module: scores and fields of candidates in, the value that orders them out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from meshfold.kernels.value.formula import formula_values


class ValueModel(nn.Module):
    """Runs each query's formula over its candidates. It has no state, for each query brings its program."""

    def forward(
        self,
        steps: Tensor,
        constants: Tensor,
        task_scores: Tensor,
        similarities: Tensor,
        fields: Tensor,
        present: Tensor,
    ) -> Tensor:
        """[B, M] float32: the value of each candidate; never NaN or infinite.

        steps: [B, L, 2] int64, constants: [B, C] float64 - programs of ValueFormulas.prepare, padded.
        task_scores: [B, T, M] float32. similarities: [B, M] float32 - the largest over the tasks.
        fields: [B, F, M] float64 - numbers of the items in ValueFormulas.fields. present: [B, F, M] bool - whether
        the item has the field.
        """
        operands = torch.cat([task_scores, similarities.unsqueeze(1)], 1).double()
        if fields.shape[1]:
            numbers = torch.stack([torch.where(present, fields, 0.0), present.double()], 2).flatten(1, 2)
            operands = torch.cat([operands, numbers], 1)
        return formula_values(steps, constants, operands)
