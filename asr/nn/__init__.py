"""Networks in torch: `ctc_model.AcousticModel`, `language_model.LanguageModel`, and their graphs, `export`.

Nothing that recognises imports this package; it needs the extra `train`.
"""
