"""What a model is on disk and how it runs: `bundle.load_bundle`, `tokens.Tokens`, `engine.open_engine`.

`session` alone opens ONNX graphs.
"""
