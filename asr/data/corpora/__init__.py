"""Readers of public corpora, and of one's own recordings, by name. Each module says how its texts become what was said.

Importing this is light: what only one reader needs it imports when it reads.
"""

from asr.data.corpora.an4 import AN4
from asr.data.corpora.commonvoice import COMMONVOICE
from asr.data.corpora.librispeech import LIBRISPEECH, LIBRISPEECH_100, MINI_LIBRISPEECH
from asr.data.corpora.ljspeech import LJSPEECH
from asr.data.corpora.speechcommands import DIGITS_ONLY, SPEECHCOMMANDS
from asr.data.corpora.tedlium import TEDLIUM
from asr.data.corpora.voxforge import VOXFORGE

CORPORA = {
    "librispeech": LIBRISPEECH,
    "librispeech-100": LIBRISPEECH_100,
    "mini-librispeech": MINI_LIBRISPEECH,
    "commonvoice": COMMONVOICE,
    "ljspeech": LJSPEECH,
    "an4": AN4,
    "tedlium": TEDLIUM,
    "voxforge": VOXFORGE,
    "speechcommands": SPEECHCOMMANDS,
    "digits": DIGITS_ONLY,
}
