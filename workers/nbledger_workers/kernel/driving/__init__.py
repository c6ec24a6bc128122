"""The worker's side of a kernel: warm kernels, and the driver of a run."""
