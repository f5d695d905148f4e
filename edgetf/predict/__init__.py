"""The latency of a file on a device that is away, from what the file does and from constants fitted to that device."""
