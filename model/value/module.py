"""The value model as a module: from what is known of candidates to the value that orders them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from meshfold.kernels.value.formula import formula_values


class ValueModel(nn.Module):
    """Runs each query's formula over its candidates. Holds nothing: programs come with the queries."""

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

        steps: [B, L, 2] int64, constants: [B, C] float64 - of ValueFormulas.prepare, padded.
        task_scores: [B, T, M] float32. similarities: [B, M] float32 - the largest over the tasks.
        fields: [B, F, M] float64 and present: [B, F, M] bool - the items' numbers in ValueFormulas.fields,
        and whether they have one.
        """
        operands = torch.cat([task_scores, similarities.unsqueeze(1)], 1).double()
        if fields.shape[1]:
            numbers = torch.stack([torch.where(present, fields, 0.0), present.double()], 2).flatten(1, 2)
            operands = torch.cat([operands, numbers], 1)
        return formula_values(steps, constants, operands)
