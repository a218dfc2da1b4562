"""The numbers that training computes with."""

import torch
from torch import nn

from asr.errors import RecipeError


def choose_precision(precision: str, device: torch.device) -> str:
    """Resolve `auto`: bfloat16 where the hardware multiplies it faster than float32. RecipeError for float16 there."""
    if precision == "float16" and device.type != "cuda":
        raise RecipeError(f"precision=float16 is for CUDA, not for the {device.type}; set precision=auto")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    # Torch has no public name for this yet.
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return "bfloat16" if has_amx() else "float32"


def check_kernels(model: nn.Module, device: torch.device) -> None:
    """RecipeError if a GPU would not run recurrent layers by cuDNN, without which torch is many times slower.

    A copy of a model has the weights of each layer apart: they are put side by side, as cuDNN wants them.
    """
    for module in model.modules():
        if isinstance(module, nn.RNNBase):
            module.flatten_parameters()
    usable = torch.backends.cudnn.enabled and torch.backends.cudnn.is_acceptable(torch.zeros(1, device=device))
    if device.type == "cuda" and not usable:
        raise RecipeError("this installation of torch cannot use cuDNN; install one that can, or hide the GPU")
