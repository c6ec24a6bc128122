"""What the service adds to an IPython kernel; runs inside the kernel."""
