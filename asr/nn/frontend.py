"""Log-mel features as a torch module, so that the exported graph takes a waveform.

The discrete Fourier transform is a matrix product: fast on every backend, and an operator that every runtime has.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

SAMPLE_RATE = 16_000  # Hz
WINDOW_LENGTH = 400  # samples, 25 ms
HOP_LENGTH = 160  # samples, 10 ms
DFT_LENGTH = 512  # points: the window zero-padded, so that the lowest mel bands hold at least one bin
SLICE_LENGTH = 80  # samples: frames are put together from slices; it divides both the window and the hop
ENERGY_FLOOR = 1e-6  # below it lie codec holes and digital silence, which say nothing about the words
# In nats. A band that hardly varies in the training data (the upper ones of telephone speech) would otherwise become
# huge in other recordings.
MIN_DEVIATION = 0.5


class LogMel(nn.Module):
    """waveform (B, N) in −1…1 → log-mel (B, frames, n_mels), each band to zero mean and unit variance.

    25 ms Hann window, 10 ms hop, no centring: frame t is that of samples [160 t, 160 t + 400). Power spectrum, Slaney
    mel filters with area normalisation (librosa's default), natural logarithm with a floor. Mean and standard deviation
    of each band come from training data (`fit`) and are saved with the weights.
    """

    dft: Tensor
    mel: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, n_mels: int = 80, floor: float = ENERGY_FLOOR):
        super().__init__()
        self.floor = floor
        bins = DFT_LENGTH // 2 + 1
        window = torch.hann_window(WINDOW_LENGTH, dtype=torch.float64)
        angle = torch.arange(WINDOW_LENGTH).unsqueeze(1) * torch.arange(bins) * (2 * torch.pi / DFT_LENGTH)
        dft = torch.cat([angle.double().cos(), -angle.double().sin()], dim=1) * window.unsqueeze(1)
        # Its import makes a tensor, after which torch no longer reads what `asr.train.process` sets.
        from torchaudio.functional import melscale_fbanks

        mel = melscale_fbanks(bins, 0.0, SAMPLE_RATE / 2, n_mels, SAMPLE_RATE, norm="slaney", mel_scale="slaney")
        self.register_buffer("dft", dft.float(), persistent=False)  # (400, 2 · 257): real parts, imaginary parts
        self.register_buffer("mel", mel, persistent=False)  # (257, n_mels)
        self.register_buffer("mean", torch.zeros(n_mels))
        self.register_buffer("deviation", torch.ones(n_mels))

    def log_mel(self, waveform: Tensor) -> Tensor:
        """waveform (B, N), N a multiple of 80 and at least 400 → (B, frames, n_mels), not normalised."""
        slices = waveform.unflatten(1, (-1, SLICE_LENGTH))
        step = HOP_LENGTH // SLICE_LENGTH
        # Slice k of every frame. Ends count from the back, so that a traced graph holds no length of its example.
        last = WINDOW_LENGTH // SLICE_LENGTH - 1
        parts = [slices[:, k : k - last or None : step] for k in range(last + 1)]
        spectrum = torch.cat(parts, dim=2) @ self.dft
        real, imaginary = spectrum.chunk(2, dim=2)
        energy = (real.square() + imaginary.square()) @ self.mel
        return energy.clamp(min=self.floor).log()

    def forward(self, waveform: Tensor) -> Tensor:
        # No autocast: bfloat16 has 8 significant bits, too few for a spectrum.
        with torch.autocast(waveform.device.type, enabled=False), torch.no_grad():
            return (self.log_mel(waveform.float()) - self.mean) / self.deviation

    @torch.no_grad()
    def fit(self, waveforms: Iterable[Tensor]) -> None:
        """Set mean and deviation from `waveforms`, each (samples,); those shorter than a window are skipped."""
        count, total, squares = 0, torch.zeros_like(self.mean), torch.zeros_like(self.mean)
        for waveform in waveforms:
            usable = len(waveform) // SLICE_LENGTH * SLICE_LENGTH
            if usable < WINDOW_LENGTH:
                continue
            frames = self.log_mel(waveform[:usable].unsqueeze(0))[0]
            count += len(frames)
            total += frames.sum(0)
            squares += frames.square().sum(0)
        if count > 1:
            self.mean.copy_(total / count)
            self.deviation.copy_((squares / count - self.mean.square()).clamp(min=MIN_DEVIATION**2).sqrt())
