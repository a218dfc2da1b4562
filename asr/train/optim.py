"""How weights are updated: learning rate, gradient clipping, moving average, precision."""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from asr.errors import RecipeError
from asr.train.config import OptimizerConfig

FIRST_LEARNING_RATE = 0.01  # of the peak, at the first step
FINAL_LEARNING_RATE = 0.01  # of the peak, at the last step
FIRST_SCALE, GROWTH = 2.0**10, 500  # of the loss in half precision, and updates after which it is doubled
MUON_MOMENTUM = 0.95
CELL = re.compile(r"recurrent\.layers\.(\d+)\.(forward|backward)_cell")


def learning_rate(optimizer: OptimizerConfig, done: float) -> float:
    """At `done`, 0…1, the share of the run: of its data, or of its time. See `OptimizerConfig`."""
    if done < optimizer.warmup or optimizer.warmup == 1:
        return optimizer.learning_rate * max(done / optimizer.warmup, FIRST_LEARNING_RATE)
    if optimizer.schedule == "constant":
        share = 1 - math.sqrt(decay_done(optimizer, done))
    else:
        progress = (done - optimizer.warmup) / (1 - optimizer.warmup)
        share = (1 + math.cos(math.pi * progress)) / 2
    return optimizer.learning_rate * (FINAL_LEARNING_RATE + (1 - FINAL_LEARNING_RATE) * share)


def decay_done(optimizer: OptimizerConfig, done: float) -> float:
    """How much of the constant schedule's decay is done, 0…1."""
    begin = 1 - optimizer.decay
    return (done - begin) / optimizer.decay if done > begin else 0.0


def clip_gradients(model: nn.Module, limit: float) -> Tensor:
    """Scale all gradients so that their common norm is at most `limit` (Pascanu et al. 2013, section 3.2).

    Returns the norms before, on the device: of all (first), then of each parameter that has a gradient.
    """
    norms = torch.stack(torch._foreach_norm([p.grad for p in model.parameters() if p.grad is not None]))
    norm = torch.linalg.vector_norm(norms)
    torch.nn.utils.clip_grads_with_norm_(model.parameters(), limit, norm)
    return torch.cat([norm.unsqueeze(0), norms])


def layer_norms(model: nn.Module, norms: Sequence[float]) -> dict[str, float]:
    """Norm of each layer's gradient, from that of each parameter that has one, as `clip_gradients` returns them."""
    squares: dict[str, float] = defaultdict(float)
    names = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    for name, norm in zip(names, norms, strict=True):
        squares[layer_of(name)] += norm**2
    return {layer: math.sqrt(square) for layer, square in squares.items()}


def layer_of(name: str) -> str:
    """The layer of a parameter or module: a cell (recurrent.1.forward), or a part of the model (head).

    The layer norms between the cells count as one layer, recurrent.norms.
    """
    if cell := CELL.match(name):
        return f"recurrent.{int(cell[1]) + 1}.{cell[2]}"
    part = name.split(".")[0]
    return "recurrent.norms" if part == "recurrent" else part


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def make_optimizer(model: nn.Module, config: OptimizerConfig, precision: torch.dtype) -> torch.optim.AdamW:
    """precision: of the matrix products in an update."""
    if config.algorithm == "muon":
        return Muon(model, config.weight_decay, precision)
    return torch.optim.AdamW(model.parameters(), weight_decay=config.weight_decay, fused=True)


class Muon(torch.optim.AdamW):
    """Muon for the matrices of recurrent layers, AdamW for all other parameters, both at the same learning rate.

    The update of a matrix is the moving average of its gradients with all singular values brought to about 1 (Jordan et
    al. 2024, "Muon: An optimizer for hidden layers in neural networks"), times 0.2 √(longer side), which makes it as
    large as one of AdamW's (Liu et al. 2025, "Muon is scalable for LLM training"). `torch.optim.Muon` computes it in
    bfloat16 always, which many CPUs multiply more slowly than float32; here `precision` says how.
    """

    def __init__(self, model: nn.Module, weight_decay: float, precision: torch.dtype):
        self.precision = precision
        cells = [module for module in model.modules() if isinstance(module, nn.RNNBase)]
        matrices = {parameter for cell in cells for parameter in cell.parameters() if parameter.ndim == 2}
        others = [parameter for parameter in model.parameters() if parameter not in matrices]
        self.matrices = [parameter for parameter in model.parameters() if parameter in matrices]
        groups = [{"params": parameters} for parameters in (self.matrices, others) if parameters]
        super().__init__(groups, weight_decay=weight_decay, fused=True)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Needs `found_inf`, as set by the trainer: where it is 1, all stays as it was."""
        gradients = [matrix.grad for matrix in self.matrices]
        for matrix in self.matrices:
            matrix.grad = None  # for AdamW, which passes over it then
        super().step()
        for matrix, gradient in zip(self.matrices, gradients, strict=True):
            matrix.grad = gradient
            if gradient is not None:
                self._step_matrix(matrix, gradient)

    def _step_matrix(self, matrix: Tensor, gradient: Tensor) -> None:
        group, state = self.param_groups[0], self.state[matrix]
        if not state:
            state |= {"step": torch.zeros(()), "exp_avg": torch.zeros_like(matrix)}  # AdamW's load wants a step
        average = state["exp_avg"].lerp(gradient, 1 - MUON_MOMENTUM)
        momentum = gradient.lerp(average, MUON_MOMENTUM)  # Nesterov's
        update = orthogonal(momentum.to(self.precision)).to(matrix.dtype)
        moved = matrix * (1 - group["lr"] * group["weight_decay"])
        moved.sub_(update, alpha=group["lr"] * 0.2 * math.sqrt(max(matrix.shape)))
        skip = self.found_inf.bool()  # type: ignore[attr-defined]
        for value, following in ((state["exp_avg"], average), (matrix, moved)):
            value.copy_(torch.where(skip, value, following))  # without a wait for the device


def orthogonal(matrix: Tensor) -> Tensor:
    """A matrix with the same singular vectors, and singular values between about 0.7 and 1.2.

    Five Newton-Schulz iterations with the coefficients of Jordan et al. 2024; values below 0.3 % of the matrix's norm
    stay smaller.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.t() if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.t()
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=-4.775, alpha=2.0315), x, beta=3.4445)
    return x.t() if tall else x


class MovingAverage(AveragedModel):
    """Exponential moving average of the weights: steadier than the last ones (Polyak & Juditsky 1992).

    `module` is a copy of the model with the averages, which `update_parameters` brings up to date. The first update
    takes the weights as they are, update n weighs what was there before by min(decay, n / (n + 9)): the early weights
    are soon forgotten (as in TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, model: nn.Module, decay: float):
        def average(averages: Any, weights: Any, _: Tensor | int) -> None:
            before = int(self.n_averaged)  # the last argument is a copy on the device of the weights
            torch._foreach_lerp_(averages, weights, 1 - min(decay, (before + 1) / (before + 10)))

        super().__init__(model, multi_avg_fn=average)


def choose_precision(precision: str, device: torch.device) -> str:
    """Resolve `auto`: bfloat16 where the hardware multiplies it faster than float32. RecipeError for float16 there."""
    if precision == "float16" and device.type != "cuda":
        raise RecipeError(f"precision=float16 is for CUDA, not for the {device.type}; set precision=auto")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    # Without AMX, Intel's processors multiply bfloat16 no faster than float32: an LSTM took 1.5 times as long.
    cpu: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of torch do not have it
    fast = cpu.get("amx_bf16") or (cpu.get("avx512_bf16") and not cpu.get("cpu_name", "").startswith("Intel"))
    return "bfloat16" if fast else "float32"


def make_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """Scales the loss where gradients are float16: cuDNN computes LSTMs in it under any autocast."""
    scaled = precision == "float16" or (device.type == "cuda" and precision != "float32")
    return torch.amp.GradScaler(device.type, FIRST_SCALE, growth_interval=GROWTH, enabled=scaled)


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
