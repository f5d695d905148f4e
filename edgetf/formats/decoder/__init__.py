"""Decoders as files that devices run: with their key-value cache, fused or plain, quantized, in a folder for genai."""
