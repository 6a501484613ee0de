"""The operations in Triton. The only place that imports it, and imported only when an operation meets CUDA tensors."""
