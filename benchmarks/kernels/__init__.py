"""The native kernels beside other libraries."""
