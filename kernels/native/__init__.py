"""The library of native kernels: found, loaded, and called."""
