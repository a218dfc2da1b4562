// Audio of the microphone → int16 chunks of a tenth of a second, each with its peak (0…1).
class Chunks extends AudioWorkletProcessor {
  begin() {
    this.samples = new Int16Array(Math.round(sampleRate / 10));
    this.filled = this.peak = 0;
  }

  process([[channel]]) {
    if (!this.samples) this.begin();
    for (const value of channel ?? []) {
      this.peak = Math.max(this.peak, Math.abs(value));
      this.samples[this.filled++] = Math.max(-32768, Math.min(32767, Math.round(value * 32768)));
      if (this.filled === this.samples.length) {
        this.port.postMessage({ samples: this.samples, peak: this.peak }, [this.samples.buffer]);
        this.begin();
      }
    }
    return true;
  }
}

registerProcessor("chunks", Chunks);
