"""Kernel workers: claims, leases, recovery, and the processes that run notebooks."""
