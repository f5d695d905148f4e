"""Deployable graphs: writing, quantizing and looking into ONNX and TFLite files."""
