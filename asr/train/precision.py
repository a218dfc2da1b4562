"""The numbers that training computes with."""

import torch

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
