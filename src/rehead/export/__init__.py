"""From a saved classifier to what runs without rehead: an ONNX model, or a plain Transformers folder."""
