"""When an utterance ends, shown on levels and blanks of frames as a model and a microphone would give them."""

from itertools import pairwise, takewhile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import ArgumentError
from asr.recognize.endpoint import GRACE, Endpoint, EndpointDetector, level

FRAME_SECONDS = 0.04
SILENCE, NOISE, VOICE = -100.0, -40.0, -15.0  # dB of full scale
LOOKAHEAD = 8  # frames
RULES = Endpoint()

Frame = tuple[float, bool]  # level in dB, blank


def frames(seconds: float) -> int:
    return round(seconds / FRAME_SECONDS)


def pause(seconds: float, loudness: float = SILENCE) -> list[Frame]:
    return [(loudness, True)] * frames(seconds)


def speech(seconds: float, background: float = SILENCE) -> list[Frame]:
    """A token every 160 ms, of a voice that is never quiet for more than a frame."""
    return [(background if frame % 4 == 2 else VOICE, frame % 4 != 0) for frame in range(frames(seconds))]


def ends(sound: list[Frame], rules: Endpoint = RULES, lookahead: int = 0) -> list[float]:
    """Seconds of decoded audio at which utterances end; the levels are ahead of the blanks by the look-ahead."""
    detector = EndpointDetector(rules, FRAME_SECONDS)
    for loudness, _ in sound[:lookahead]:
        detector.accept_level(loudness)
    found = []
    for number, ((_, blank), (loudness, _)) in enumerate(zip(sound, sound[lookahead:], strict=False), 1):
        detector.accept_level(loudness)
        if detector.accept_frame(blank):
            detector.restart()
            found.append(number * FRAME_SECONDS)
    return found


@pytest.mark.parametrize("rule", [0.4, 0.8, 1.6])
@pytest.mark.parametrize("background", [SILENCE, -60.0, NOISE])
def test_silence_after_speech_ends_the_utterance(rule: float, background: float):
    sound = pause(1, background) + speech(3, background) + pause(rule + 0.4, background)
    (end,) = ends(sound, Endpoint(after_speech=rule))
    last_token = 1 + 3 - 4 * FRAME_SECONDS
    assert last_token + rule <= end <= last_token + rule + 5 * FRAME_SECONDS


@pytest.mark.parametrize("background", [SILENCE, NOISE])
def test_the_silence_is_already_heard_during_the_lookahead(background: float):
    sound = pause(1, background) + speech(3, background) + pause(3, background)
    (late,), (early,) = ends(sound), ends(sound, lookahead=LOOKAHEAD)
    assert late - early == pytest.approx(LOOKAHEAD * FRAME_SECONDS)


def test_speech_within_the_lookahead_is_no_silence():
    sound = speech(3) + pause(RULES.after_speech - 2 * FRAME_SECONDS) + speech(3)
    assert ends(sound, lookahead=LOOKAHEAD) == []


@pytest.mark.parametrize("background", [SILENCE, NOISE])
@pytest.mark.parametrize("lookahead", [0, LOOKAHEAD])
def test_speech_with_shorter_pauses_is_one_utterance(background: float, lookahead: int):
    part = speech(2, background) + pause(RULES.after_speech - 0.2, background)
    assert ends(5 * part, lookahead=lookahead) == []


def test_a_voice_that_the_model_writes_is_never_cut_however_quiet():
    whisper = [(SILENCE, frame % 4 != 0) for frame in range(frames(10))]
    assert ends(whisper) == []


@pytest.mark.parametrize("background", [SILENCE, NOISE, VOICE])
@pytest.mark.parametrize("rule", [2.0, 5.0])
def test_silence_before_speech_starts_afresh_again_and_again(background: float, rule: float):
    assert ends(pause(4 * rule + 1, background), Endpoint(before_speech=rule)) == pytest.approx(
        [rule, 2 * rule, 3 * rule, 4 * rule]
    )


def test_the_rule_of_before_speech_is_over_once_there_is_speech():
    rules = Endpoint(before_speech=2.0)
    assert ends(pause(1.9) + speech(10), rules) == []
    assert ends(pause(1.9) + speech(10) + pause(2.5), rules) == pytest.approx([1.9 + 10 + 0.8], abs=0.2)


def test_in_noise_as_loud_as_the_voice_twice_as_long_a_run_of_blanks_does():
    rng = np.random.default_rng(0)
    babble = [(VOICE + rng.uniform(0, 12), True) for _ in range(frames(5))]
    (end,) = ends(pause(1) + speech(3) + babble)
    assert end == pytest.approx(1 + 3 - 3 * FRAME_SECONDS + 2 * RULES.after_speech, abs=2 * FRAME_SECONDS)


def test_a_room_that_gets_louder_is_learned():
    fan = -30.0
    sound = pause(2) + pause(60, fan) + speech(3, fan) + pause(5, fan)
    end = next(end for end in ends(sound) if end > 65 - 0.2)
    assert end == pytest.approx(65 + RULES.after_speech, abs=0.2)


def test_noise_that_an_automatic_gain_turns_up_in_the_pause_is_heard_as_the_room():
    rng = np.random.default_rng(0)
    hiss = [(NOISE + rng.uniform(0, 3), True) for _ in range(frames(3))]
    (end,) = ends(pause(1, -70.0) + speech(3, -70.0) + hiss, lookahead=LOOKAHEAD)
    assert end + LOOKAHEAD * FRAME_SECONDS == pytest.approx(1 + 3 + RULES.after_speech, abs=0.1)


def test_a_loud_bang_is_forgotten():
    bang = [(0.0, True)] * 3
    sound = pause(1, NOISE) + bang + pause(8, NOISE) + speech(3, NOISE) + pause(3, NOISE)
    end = next(end for end in ends(sound) if end > 12)
    assert end == pytest.approx(12.12 + RULES.after_speech, abs=0.2)


@pytest.mark.parametrize("longest", [4.0, 20.0])
def test_speech_without_a_pause_is_cut_at_the_longest_utterance(longest: float):
    found = [0.0, *ends(speech(5 * longest), Endpoint(max_utterance=longest))]
    lengths = np.diff(found)
    assert len(lengths) >= 5
    assert max(lengths) <= longest + FRAME_SECONDS
    assert min(lengths) >= 0.9 * longest  # and not much earlier


def test_tokens_without_a_blank_are_cut_too():
    assert ends([(VOICE, False)] * frames(45)) == pytest.approx([20 + GRACE, 2 * (20 + GRACE)])


def test_no_token_is_cut_in_its_middle():
    tokens = ([(VOICE, False)] * 3 + [(VOICE, True)]) * frames(10)
    found = ends(tokens)
    assert len(found) == 2  # of 40 s
    for end in found:
        assert tokens[frames(end) - 1] == (VOICE, True)


def test_zeros_of_a_device_that_opens_say_nothing_of_the_room():
    room = [(-48.0, True)] * frames(2)
    (end,) = ends(pause(0.2, -100.0) + room + speech(3) + [(-48.0, True)] * frames(1.5))
    assert end == pytest.approx(0.2 + 2 + 3 + 0.8, abs=0.1)


@pytest.mark.parametrize(("begin", "length"), [(16.8, 0.7), (18.0, 0.5), (18.8, 0.4), (19.4, 0.28)])
def test_in_its_last_fifth_a_short_pause_is_a_place_to_cut(begin: float, length: float):
    end = ends(speech(begin) + pause(length) + speech(10))[0]
    assert begin < end <= begin + length


@pytest.mark.parametrize("length", [0.28, 0.6])
def test_before_its_last_fifth_a_short_pause_is_none(length: float):
    assert ends(speech(14) + pause(length) + speech(1)) == []


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([SILENCE, NOISE, VOICE, 0.0]), st.booleans(), st.integers(1, 300)), max_size=20),
    st.sampled_from([0, LOOKAHEAD]),
    st.sampled_from([RULES, Endpoint(0.3, 1.0, 4.0), Endpoint(3.0, 10.0, 1.0)]),
)
def test_nothing_lasts_longer_than_its_rule(stretches: list[tuple[float, bool, int]], lookahead: int, rules: Endpoint):
    sound = [(loudness, blank) for loudness, blank, count in stretches for _ in range(count)]
    bounds = [0, *(frames(end) for end in ends(sound, rules, lookahead)), len(sound) - lookahead]
    for begin, end in pairwise(bounds):
        blanks = [blank for _, blank in sound[begin:end]]
        before = len(list(takewhile(bool, blanks)))
        assert before <= frames(rules.before_speech)
        assert len(blanks) - before <= frames(rules.max_utterance + GRACE) + 1


@pytest.mark.parametrize("field", ["after_speech", "before_speech", "max_utterance"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rule_that_is_no_time_is_refused_in_one_line(field: str, value: float):
    with pytest.raises(ArgumentError) as caught:
        Endpoint(**{field: value})
    assert str(caught.value) == f"{field}: {value}; give seconds, above 0"


SQUARE_WAVE = np.resize(np.array([1, -1], dtype=np.float32), 640)


@pytest.mark.parametrize(("amplitude", "decibels"), [(0.0, -100), (1.0, 0), (0.1, -20), (0.01, -40)])
def test_level_is_in_decibels_of_full_scale(amplitude: float, decibels: float):
    assert level(amplitude * SQUARE_WAVE) == pytest.approx(decibels, abs=0.01)


def test_a_constant_offset_is_no_sound():
    assert level(0.01 * SQUARE_WAVE + 0.05) == pytest.approx(-40, abs=0.01)


def test_level_of_the_loudest_samples_is_finite():
    assert level(1e6 * SQUARE_WAVE) == pytest.approx(120)
