"""The page in a real browser, whose microphone is a file."""

import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from serving import program

from asr import Final, Recognizer, StreamingRecognizer

pytest.importorskip("starlette", reason="pip install 'recurrent-asr[serve]'")
pytest.importorskip("prometheus_client", reason="pip install 'recurrent-asr[serve]'")
httpx = pytest.importorskip("httpx", reason="pip install 'recurrent-asr[dev]'")
jiwer = pytest.importorskip("jiwer", reason="pip install 'recurrent-asr[dev]'")
playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'recurrent-asr[dev]'")

SAMPLE = Path(__file__).parents[1] / "data/sample.flac"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SECOND, LIMIT = 1000, 60_000  # milliseconds; the latter for a busy machine
OPTIONS = ("--second-pass", "en-bilstm", "--token", "secret")
LEAD_SECONDS = 2  # of silence: the browser plays the file before the page records
NOTHING = {"partial": "", "stable": ""}


@pytest.fixture(scope="module")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled sample between silence."""
    samples, rate = soundfile.read(SAMPLE, dtype="float32")
    path = tmp_path_factory.mktemp("microphone") / "speech.wav"
    soundfile.write(
        path, np.concatenate([np.zeros(LEAD_SECONDS * rate), samples, np.zeros(60 * rate)]), rate, subtype="PCM_16"
    )
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
def port(browser: Any) -> Iterator[int]:
    """Of one server for all tests that do not end it."""
    with program("--port", "0", *OPTIONS) as (_, (number,)):
        yield number


def text(page: Any) -> str:
    return " ".join(page.locator("#segments .word").all_inner_texts())


def test_without_the_token_the_page_says_so_and_waits_for_it(browser: Any, port: int) -> None:
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
    events = [*recognizer.accept(samples[: (LEAD_SECONDS + 8) * rate], rate), *recognizer.finish()]
    expected = " ".join(event.written for event in events if isinstance(event, Final))
    with opened(browser, port) as page:
        page.click("#listen")
        page.wait_for_selector("#stable:not(:empty)", state="attached")
        page.locator("#segments .word").nth(round(0.8 * len(expected.split())) - 1).wait_for()
        page.click("#listen")
        page.wait_for_selector("#listen[aria-pressed=false]")
        spoken, shown = (
            " ".join(word.strip(",.?!").lower() for word in said.split()) for said in (expected, text(page))
        )
    assert len(spoken.split()) > 15
    # The browser resamples the file, and loses some of it where the machine is busy.
    assert jiwer.wer(spoken, shown) <= 0.2, (spoken, shown)


def test_what_the_second_pass_changed_is_marked(browser: Any, port: int) -> None:
    def result(text: str) -> dict[str, Any]:
        words = [
            {"word": word, "conf": 0.9, "start": place, "end": place + 0.5} for place, word in enumerate(text.split())
        ]
        return {"utterance": 0, "text": text, "result": words}

    replies = iter([result("the cat sad down"), {"partial": "", "stable": "", "revised": [result("the cat sat down")]}])
    with opened(browser, port) as page:
        page.route_web_socket(
            "**/vosk*", lambda socket: socket.on_message(lambda _: socket.send(json.dumps(next(replies, NOTHING))))
        )
        page.click("#listen")
        page.locator("#segments .corrected", has_text="sat").wait_for()
        assert page.locator("#segments .corrected").count() == 1
        assert text(page) == "the cat sat down"


def test_a_recording_that_was_given_up_is_not_in_the_next_one(browser: Any, port: int) -> None:
    sockets: list[Any] = []
    late = {"text": "late", "result": [{"word": "late", "conf": 0.9, "start": 0, "end": 1}]}
    with opened(browser, port) as page:
        page.route_web_socket("**/vosk*", lambda socket: sockets.append(socket))
        page.click("#listen")
        page.locator("#status", has_text="Listening").wait_for()
        page.click("#listen")
        page.locator("#status", has_text="Finishing").wait_for()
        page.click("#listen")  # does not wait for the last words
        page.click("#listen")
        page.locator("#status", has_text="Listening").wait_for()
        first, _ = sockets
        first.send(json.dumps(late))
        first.close()
        page.wait_for_timeout(SECOND / 2)
        assert text(page) == ""
        assert page.get_attribute("#listen", "aria-pressed") == "true"


def test_nothing_is_lost_when_the_server_is_started_again(browser: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with program("--port", str(port), *OPTIONS) as (process, _), opened(browser, port) as page:
        page.click("#listen")
        page.wait_for_selector("#stable:not(:empty)", state="attached")
        process.kill()
        process.wait()
        page.wait_for_timeout(2 * SECOND)
        assert "No connection" in page.inner_text("#status")
        with program("--port", str(port), *OPTIONS):
            page.locator("#segments .word").nth(15).wait_for()
            page.click("#listen")
            page.wait_for_selector("#listen[aria-pressed=false]")
            assert page.inner_text("#status") == ""
            assert page.locator("#segments time").first.inner_text() <= f"00:{LEAD_SECONDS:02d}"


def test_saved_subtitles_end_with_sentences(browser: Any, port: int, tmp_path: Path) -> None:
    cues = ["No. It was Dr. Smith of the U.S. Army.", "He paid $25 for it all, and he left.", "Did he come"]
    texts = " ".join(cues).split()
    words = [{"word": word, "conf": 0.9, "start": float(place), "end": place + 0.9} for place, word in enumerate(texts)]
    finals = iter([json.dumps({"result": words, "text": " ".join(texts), "utterance": 0})])
    with opened(browser, port) as page:
        page.route_web_socket("**/vosk*", lambda socket: socket.on_message(lambda _: [*map(socket.send, finals)]))
        page.click("#listen")
        page.wait_for_selector("#segments .word")
        with page.expect_download() as download:
            page.click("#save button[value=srt]")
        download.value.save_as(tmp_path / "srt")
    assert (tmp_path / "srt").read_text().splitlines()[2 : 4 * len(cues) : 4] == cues


@pytest.mark.usefixtures("written_words")
def test_a_recording_with_its_words(browser: Any, port: int, tmp_path: Path) -> None:
    transcript = Recognizer("en-bilstm", threads=1).transcribe(SAMPLE)
    words = transcript.written_words
    narrow = {"viewport": {"width": 360, "height": 700}, "color_scheme": "dark"}
    with opened(browser, port, **narrow) as page:
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
        page.evaluate("document.getElementById('player').play = function () { window.played = this.currentTime; }")
        page.keyboard.press("Enter")
        assert page.evaluate("played") == pytest.approx(words[2].start, abs=0.01)
        for format in ("txt", "srt", "vtt", "json"):
            with page.expect_download() as download:
                page.click(f"#save button[value={format}]")
            download.value.save_as(tmp_path / format)
        assert (tmp_path / "txt").read_text() == "".join(f"{part.written}\n" for part in transcript.segments)
        saved = json.loads((tmp_path / "json").read_text())["segments"]
        assert [part["text"] for part in saved] == [part.written for part in transcript.segments]
        assert [word for part in saved for word in part["words"]] == [word.to_dict() for word in words]
        pytest.importorskip("webvtt", reason="pip install webvtt-py")
        import pysrt
        import webvtt

        for cues in (webvtt.read(tmp_path / "vtt"), pysrt.open(str(tmp_path / "srt"))):
            assert " ".join(cue.text for cue in cues) == transcript.written
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert lightness(page, "background-color") < 50 < 200 < lightness(page, "color")
        page.emulate_media(color_scheme="light")
        assert lightness(page, "color") < 50 < 200 < lightness(page, "background-color")
        page.set_input_files("#file", {"name": "no.txt", "mimeType": "audio/wav", "buffer": b"no audio" * 100})
        page.locator("#status", has_text="not an audio file").wait_for()


def lightness(page: Any, property: str) -> float:
    """Of a colour of the page: 0 is black, 255 white."""
    colour = page.evaluate(f"getComputedStyle(document.body).getPropertyValue('{property}')")
    return float(np.mean([int(value) for value in re.findall(r"\d+", colour)[:3]]))


def test_a_file_in_work_can_be_cancelled(browser: Any, port: int, tmp_path: Path) -> None:
    samples, rate = soundfile.read(SAMPLE, dtype="int16")
    soundfile.write(tmp_path / "long.wav", np.tile(samples, 120), rate)  # 10 minutes

    def open_files() -> int:
        url, headers = f"http://127.0.0.1:{port}/metrics", {"Authorization": "Bearer secret"}
        (line,) = re.findall(r"^asr_open_files (\S+)$", httpx.get(url, headers=headers, trust_env=False).text, re.M)
        return int(float(line))

    def wait_until(count: int) -> None:
        deadline = time.monotonic() + LIMIT / SECOND
        while open_files() != count and time.monotonic() < deadline:
            time.sleep(0.05)
        assert open_files() == count

    with opened(browser, port) as page:
        page.set_input_files("#file", tmp_path / "long.wav")
        wait_until(1)
        page.click("#cancel")
        page.locator("#working").wait_for(state="hidden")
        assert page.text_content("#status") == "long.wav: cancelled"
        wait_until(0)
        page.set_input_files("#file", SAMPLE)
        page.locator("#status", has_text="words").wait_for()
