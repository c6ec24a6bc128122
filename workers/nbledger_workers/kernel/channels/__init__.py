"""The channels of a kernel: its messages received, sorted, and told whether they are whole."""
