"""Speech to text: waveform in, log-probabilities out, one decoder for files and for the microphone."""
