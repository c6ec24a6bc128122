"""One notebook on one kernel: a supervising child process, and the driver that talks to it.

`driver` is what a worker uses. The child (`python -m nbledger_workers.kernel`) starts the kernel,
runs the cells and reports each; it holds no connection and no secret of the worker's.
"""
