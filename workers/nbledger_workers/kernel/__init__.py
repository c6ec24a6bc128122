"""One notebook on one kernel: a supervising child process, and the driver that talks to it.

A worker uses `driving.driver`. The child (`python -m nbledger_workers.kernel.supervising`) starts
the kernel, runs the cells and reports each; it holds no connection and no secret of the worker's.
"""
