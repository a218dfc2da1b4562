"""Training: from a recipe and manifests to a bundle.

`run` has what the commands use: run_recipe, resume_run, export_checkpoint. `runs` reads folders of runs without torch.
"""
