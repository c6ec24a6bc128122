"""What the settings keep kernels from: folders, ports, users."""
