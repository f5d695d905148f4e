"""edgetf: compress a Transformer for an edge device, and prove the result on the file that ships."""

__version__ = "0.1.0"
