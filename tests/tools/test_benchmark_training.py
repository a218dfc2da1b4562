"""What tools/benchmark.py train measures beside our model."""

import pytest
from developer_tools import load_tool

torch = pytest.importorskip("torch", reason="needs torch")


def test_the_packed_layers_fit_into_our_model_and_padding_never_reaches_a_frame():
    from asr.nn.ctc_model import AcousticConfig, AcousticModel

    model = AcousticModel(AcousticConfig(layers=2, hidden_size=16, n_mels=20), 5)
    model.recurrent = load_tool("benchmark_training").PackedStack(16, 2)
    model.eval()
    waveform, lengths = torch.randn(2, 6400), torch.tensor([6400, 3200])
    log_probs, _, frames = model(waveform, lengths)
    assert log_probs.shape == (2, 10, 5)
    alone, *_ = model(waveform[1:, :3200], lengths[1:])
    torch.testing.assert_close(log_probs[1, : frames[1]], alone[0])
    log_probs.sum().backward()
    assert all(weight.grad is not None for weight in model.recurrent.layers.parameters())
