"""The page in a real browser, whose microphone is a file."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr import Final, Recognizer, StreamingRecognizer

pytest.importorskip("starlette", reason="pip install 'recurrent-asr[serve]'")
pytest.importorskip("prometheus_client", reason="pip install 'recurrent-asr[serve]'")
playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'recurrent-asr[dev]'")

SAMPLE = Path(__file__).parents[1] / "data/sample.flac"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SECOND, LIMIT = 1000, 60_000  # milliseconds; the latter for a busy machine


@contextmanager
def program(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """`asr serve` with a second pass, listening."""
    code = "from asr.cli.main import main; main()"
    options = ["--port", str(port), "--second-pass", "en-bilstm", "--token", "secret"]
    with subprocess.Popen([sys.executable, "-c", code, "serve", *options], stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert b"listening" in process.stderr.readline()
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled sample, then silence."""
    samples, rate = soundfile.read(SAMPLE, dtype="float32")
    path = tmp_path_factory.mktemp("microphone") / "speech.wav"
    soundfile.write(path, np.concatenate([samples, np.zeros(60 * rate)]), rate, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def browser(microphone: Path) -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    fake = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    arguments = [*fake, f"--use-file-for-fake-audio-capture={microphone}%noloop"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--no-sandbox")  # which root cannot have
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield launched
        launched.close()


@contextmanager
def opened(browser: Any, port: int, **options: Any) -> Iterator[Any]:
    """The page, which must have nothing to complain about."""
    context = browser.new_context(**options)
    context.grant_permissions(["microphone"], origin=f"http://127.0.0.1:{port}")
    page, problems = context.new_page(), []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda line: problems.append(line.text) if "Content Security" in line.text else None)
    page.on("dialog", lambda dialog: dialog.accept())
    page.set_default_timeout(LIMIT)
    page.goto(f"http://127.0.0.1:{port}/#token=secret")
    yield page
    assert problems == []
    context.close()


@pytest.fixture(scope="module")
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
    return number


def text(page: Any) -> str:
    return " ".join(page.locator("#segments .word").all_inner_texts())


def test_without_the_token_the_page_says_so_and_waits_for_it(browser: Any, port: int) -> None:
    with program(port):
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_selector("#listen:disabled")
        assert "wants a token" in page.text_content("#status")
        page.goto(f"http://127.0.0.1:{port}/#token=secret")
        page.wait_for_selector("#listen:enabled")
        page.wait_for_selector("#language:has-text('en-bilstm')")
        context.close()


@pytest.mark.usefixtures("written_words")
def test_captions_are_what_was_spoken(browser: Any, port: int, microphone: Path) -> None:
    samples, rate = soundfile.read(microphone, dtype="int16")
    recognizer = StreamingRecognizer("en-gru", second_pass="en-bilstm", threads=1)
    events = [*recognizer.accept(samples[: 8 * rate], rate), *recognizer.finish()]
    expected = " ".join(event.written for event in events if isinstance(event, Final))
    with program(port), opened(browser, port) as page:
        page.click("#listen")
        page.wait_for_selector("#stable:not(:empty)", state="attached")
        page.wait_for_selector("#segments .corrected")
        page.click("#listen")
        page.wait_for_selector("#listen[aria-pressed=false]")
        # The browser resamples the file and begins somewhere in its first block.
        spoken, shown = ({word.strip(",.?!").lower() for word in said.split()} for said in (expected, text(page)))
        assert len(spoken & shown) > 0.7 * len(spoken)


def test_nothing_is_lost_when_the_server_is_started_again(browser: Any, port: int) -> None:
    with opened_after(browser, port) as (page, process):
        page.click("#listen")
        page.wait_for_selector("#stable:not(:empty)", state="attached")
        process.kill()
        process.wait()
        page.wait_for_timeout(2 * SECOND)
        assert "No connection" in page.inner_text("#status")
        with program(port):
            page.wait_for_selector("#segments .word")
            page.wait_for_timeout(SECOND)
            page.click("#listen")
            page.wait_for_selector("#listen[aria-pressed=false]")
            assert page.inner_text("#status") == ""
            assert page.locator("#segments time").first.inner_text() == "00:00"
            assert len(text(page).split()) > 15


def test_saved_subtitles_end_with_sentences(browser: Any, port: int, tmp_path: Path) -> None:
    cues = ["No. It was Dr. Smith of the U.S. Army.", "He paid $25 for it all, and he left.", "Did he come"]
    texts = " ".join(cues).split()
    words = [{"word": word, "conf": 0.9, "start": float(place), "end": place + 0.9} for place, word in enumerate(texts)]
    finals = iter([json.dumps({"result": words, "text": " ".join(texts), "utterance": 0})])
    with program(port), opened(browser, port) as page:
        page.route_web_socket("**/vosk*", lambda socket: socket.on_message(lambda _: [*map(socket.send, finals)]))
        page.click("#listen")
        page.wait_for_selector("#segments .word")
        with page.expect_download() as download:
            page.click("#save button[value=srt]")
        download.value.save_as(tmp_path / "srt")
    assert (tmp_path / "srt").read_text().splitlines()[2 : 4 * len(cues) : 4] == cues


@contextmanager
def opened_after(browser: Any, port: int) -> Iterator[tuple[Any, subprocess.Popen[bytes]]]:
    with program(port) as process, opened(browser, port) as page:
        yield page, process


@pytest.mark.usefixtures("written_words")
def test_a_recording_with_its_words(browser: Any, port: int, tmp_path: Path) -> None:
    transcript = Recognizer("en-bilstm", threads=1).transcribe(SAMPLE)
    words = transcript.written_words
    narrow = {"viewport": {"width": 360, "height": 700}, "color_scheme": "dark"}
    with program(port), opened(browser, port, **narrow) as page:
        page.set_input_files("#file", SAMPLE)
        page.wait_for_selector("#segments .word")
        assert text(page) == transcript.written
        assert page.locator("#segments .corrected").count() == 0
        low = [word for word in words if word.confidence < 0.5]
        assert page.locator("#segments .low").count() == len(low)
        page.fill("#search", words[-1].text)
        assert page.inner_text("#hits").endswith("found")
        page.locator("#segments .word").nth(4).click()
        assert page.evaluate("document.getElementById('player').currentTime") >= words[4].start - 0.01
        page.focus("#transcript")  # by keys alone
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        assert page.evaluate("document.activeElement.textContent") == words[2].text
        for format in ("txt", "srt", "vtt", "json"):
            with page.expect_download() as download:
                page.click(f"#save button[value={format}]")
            download.value.save_as(tmp_path / format)
        assert (tmp_path / "txt").read_text() == "".join(f"{part.written}\n" for part in transcript.segments)
        pytest.importorskip("webvtt", reason="pip install webvtt-py")
        import pysrt
        import webvtt

        for cues in (webvtt.read(tmp_path / "vtt"), pysrt.open(str(tmp_path / "srt"))):
            assert " ".join(cue.text for cue in cues) == transcript.written
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.set_input_files("#file", {"name": "no.txt", "mimeType": "audio/wav", "buffer": b"no audio" * 100})
        page.locator("#status", has_text="not an audio file").wait_for()
