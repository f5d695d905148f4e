"""Ways to reach a device. Here: this machine."""
