"""Servers that read the audio of `carrier.speech`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serving import GREEDY, Running, make_service, running

from asr.decode.build import DecoderOptions
from asr.recognize.offline import Recognizer


@pytest.fixture(scope="session")
def carrier_recognizer(carrier_bundle: Path) -> Recognizer:
    return Recognizer(carrier_bundle, DecoderOptions(lm="NONE"), threads=1)


@pytest.fixture
def serve(carrier_recognizer: Recognizer, streaming_carrier_bundle: Path) -> Callable[..., object]:
    """`with serve(max_streams=2) as running:` reads the audio of `carrier.speech`."""

    def start(
        live: Path = streaming_carrier_bundle,
        decoder: DecoderOptions = GREEDY,
        second_pass: Recognizer | None = None,
        recognizer: Recognizer = carrier_recognizer,
        **limits: object,
    ) -> object:
        return running(make_service(recognizer, live, decoder, second_pass, **limits))

    return start


@pytest.fixture(scope="session")
def server(carrier_recognizer: Recognizer, streaming_carrier_bundle: Path) -> Iterator[Running]:
    """One server for all tests that need nothing special of it; hotwords are possible."""
    decoder = DecoderOptions(lm="NONE")
    with running(make_service(carrier_recognizer, streaming_carrier_bundle, decoder, None)) as started:
        yield started
