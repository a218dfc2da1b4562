"""Documents about a finished run: RUN/report.html (`page`) and the MODEL_CARD.md of a bundle (`card`).

`plots` and `breakdown` make the figures of the page; `saturation` counts saturated units while a model is validated.
"""
