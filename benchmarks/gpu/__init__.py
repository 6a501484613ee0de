"""The Triton kernels: measured on a GPU, compiled ahead of time, and calculated from their formats."""
