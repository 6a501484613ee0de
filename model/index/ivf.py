"""The index as a module: clusters lie back to back, items as Int8 codes and residuals."""

from __future__ import annotations

from torch import Tensor, nn

from meshfold.kernels.probe import probe_order
from meshfold.kernels.quantize import Quantized, dequantize, quantize
from meshfold.kernels.rescore import rescore
from meshfold.kernels.scan import Scanned, scan

# Survivors scored for each candidate wanted, where that is more than the calibrated budget.
SCORED_PER_CANDIDATE = 2


class IvfIndex(nn.Module):
    """items: codes [N, D]. rows: [N] int32. centroids: [C, D] int8. offsets: [C + 1] int64.
    centroid_units, centroid_spreads: [C] float32.
    scan_budget: survivors that a query scores where there are so many.
    """

    codes: Tensor
    residuals: Tensor
    units: Tensor
    rows: Tensor
    centroids: Tensor
    centroid_units: Tensor
    centroid_spreads: Tensor
    offsets: Tensor

    def __init__(
        self,
        items: Quantized,
        rows: Tensor,
        centroids: Tensor,
        centroid_units: Tensor,
        centroid_spreads: Tensor,
        offsets: Tensor,
        scan_budget: int,
    ) -> None:
        super().__init__()
        self.register_buffer("codes", items.codes)
        self.register_buffer("residuals", items.residuals)
        self.register_buffer("units", items.units)
        self.register_buffer("rows", rows)
        self.register_buffer("centroids", centroids)
        self.register_buffer("centroid_units", centroid_units)
        self.register_buffer("centroid_spreads", centroid_spreads)
        self.register_buffer("offsets", offsets)
        self._scan_budget = scan_budget

    def search(self, queries: Quantized, eligible: Tensor, depth: Tensor, k: int) -> Scanned:
        """The best eligible items by code, for each query vector.

        queries: codes [B, T, D]. eligible: [B, G, 8] int64 bits. depth: [B] int64 - candidates to find, at
        most k, the columns of the result.
        """
        return scan(
            queries.codes,
            probe_order(queries.codes, self.centroids, self.centroid_units, self.centroid_spreads),
            eligible,
            self.codes,
            self.units,
            self.rows,
            self.offsets,
            (depth * SCORED_PER_CANDIDATE).clamp(min=self._scan_budget),
            depth,
            k,
        )

    def similarities(self, queries: Quantized, positions: Tensor) -> Tensor:
        """[B, T, M] float32 from code and residual. queries: codes [B, T, D]. positions: [B, M] int64."""
        return rescore(queries, Quantized(self.codes, self.residuals, self.units), positions)

    def vectors(self, positions: Tensor) -> Tensor:
        """[..., D] float32: the items' vectors. positions: [...] int64 - -1 gives some item's."""
        at = positions.clamp(min=0)
        return dequantize(self.codes[at], self.residuals[at], self.units[at])

    @staticmethod
    def quantize(vectors: Tensor) -> Quantized:
        """Query vectors as the index compares them. vectors: [B, T, D] float32."""
        return quantize(vectors)
