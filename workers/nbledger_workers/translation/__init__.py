"""Between events of an execution and the kernel's protocol: plans one way, steps the other."""
