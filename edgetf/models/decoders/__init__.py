"""Decoders: language models that write from left to right, as plain Hugging Face folders."""
