"""Convolutional subsampling: four feature frames (40 ms) become one."""

from torch import Tensor, nn

SUBSAMPLING = 4  # feature frames per output frame
CONTEXT_FRAMES = 7  # receptive field of an output frame, in feature frames
CHANNELS = 32


class ConvSubsampling(nn.Module):
    """features (B, 4 T + 3, n_mels) → (B, T, size): two 3 × 3 convolutions of stride 2 and a projection.

    Time is not padded here (`AcousticModel` pads the waveform): output frame t depends on feature frames
    [4 t, 4 t + 7) only, whatever the length of the batch.
    """

    def __init__(self, n_mels: int, size: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, CHANNELS, 3, stride=2, padding=(0, 1)),
            nn.ReLU(),
            nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=(0, 1)),
            nn.ReLU(),
        )
        remaining = -(-n_mels // SUBSAMPLING)
        self.projection = nn.Linear(CHANNELS * remaining, size)

    def forward(self, features: Tensor) -> Tensor:
        # (B, 1, T, n_mels) with channels last in memory, which is faster on CPUs.
        x = self.layers(features.unsqueeze(3).permute(0, 3, 1, 2))  # (B, channels, T, n_mels / 4)
        return self.projection(x.transpose(1, 2).flatten(2))
