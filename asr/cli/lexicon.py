"""`asr lexicon`: dictionaries of pronunciations, and words that no dictionary has."""

from functools import cache
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from asr.cli import options
from asr.cli.messages import complain
from asr.cli.outputs import Guard
from asr.decode.lexicon import Pronunciations
from asr.errors import AsrError
from asr.lm.binary import MAGICS, load_model
from asr.lm.g2p import Pronouncer, train
from asr.lm.lexicon import Lexicon
from asr.lm.source import open_source, read_sentences
from asr.lm.vocabulary import SPECIAL
from asr.model.bundle import LEXICON, PACKAGED, PRONOUNCER, find_language_model, packaged_language_models
from asr.model.phones import arpabet, parse
from asr.normalize import normalize

ENGLISH = PACKAGED / "en-lexicon"
SHOWN = 5  # words in a message

lexicon = typer.Typer(help="Make dictionaries; pronounce and spell words.", no_args_is_help=True)

Dictionary = Annotated[Path, Option("--lexicon", metavar="FILE", help="Dictionary; else the packaged English one.")]
Rules = Annotated[Path, Option("--g2p", metavar="FILE", help="Rules of `asr lexicon build`; else the packaged ones.")]


@lexicon.command(cls=options.Command)
def build(
    dictionaries: Annotated[
        list[str],
        Argument(metavar="TEXT...", help="A line each: word, tab, phones in ARPAbet; or as CMUdict has them."),
    ],
    output: Annotated[Path, Option("--output", "-o", help="File to write.")],
    g2p: Annotated[Path | None, Option("--g2p", metavar="OUT", help="Also write letter-to-phone rules here.")] = None,
    words: Annotated[
        str | None,
        Option(metavar="LIST", help="Language model, or a word a line: words to have, by rules if need be."),
    ] = None,
    as_is: Annotated[bool, Option("--as-is", help="Keep the words' case and punctuation.")] = False,
    force: options.Force = False,
) -> None:
    """Make a lexicon from dictionaries, and letter-to-phone rules.

    Pronunciations of the first dictionary come first, and so do words of the LIST, in its order or the likeliest first:
    of words that sound alike the first is preferred.
    """
    files = find_language_model(words) if words in packaged_language_models() else words
    guard = Guard([*dictionaries, files], force)
    guard.check(output)
    guard.check(g2p, "--g2p")
    entries = [entry for path in dictionaries for entry in Lexicon.load(path)]
    if not as_is:
        spelled = [(normalize(word), word, spoken) for word, spoken in entries]
        # "'cause" would otherwise be the most usual pronunciation of "cause".
        spelled.sort(key=lambda entry: entry[0] != entry[1])
        entries = [(word, spoken) for word, _, spoken in spelled if len(word.split()) == 1]
        if parted := [written for word, written, _ in spelled if len(word.split()) != 1]:
            named = ", ".join(parted[:SHOWN])
            complain(f"left out {len(parted):,} that are no single words: {named}; see --as-is")
    if not entries:
        raise AsrError(f"{', '.join(dictionaries)}: no words with pronunciations")
    wanted = [] if files is None else read_words(files, as_is)
    rules = train((word.lower(), spoken) for word, spoken in entries) if wanted or g2p is not None else None
    by_word: dict[str, list[str]] = {word: [] for word in chain(wanted, (word for word, _ in entries))}
    for word, spoken in entries:
        by_word[word].append(spoken)
    missing = [word for word, spoken in by_word.items() if not spoken]
    for word in missing:
        by_word[word] = rules.say_all(word.lower(), 1) if rules is not None else []
    if unspoken := [word for word in missing if not by_word[word]]:
        complain(f"{len(unspoken)} words cannot be pronounced and are left out: {', '.join(unspoken[:SHOWN])}")
    made = Lexicon.of((word, spoken) for word in by_word for spoken in by_word[word])
    made.save(output)
    if rules is not None and g2p is not None:
        rules.save(g2p)
    print(
        f"{output}: {len(made.vocabulary):,} words, {len(missing) - len(unspoken):,} of them by rules, "
        f"{len(made):,} pronunciations, {output.stat().st_size / 1e6:.1f} MB"
    )


def read_words(path: Path | str, as_is: bool) -> list[str]:
    """The words of a language model, likeliest first, or of a list. LanguageModelError."""
    with open_source(path) as file:
        first = file.readline(len(MAGICS[0]))
    if first not in MAGICS and first.strip() != b"\\data\\":
        return [*dict.fromkeys(word for line in read_sentences([path], as_is) for word in line.split())]
    model = load_model(path)
    log_probs = next(model.levels()).log_prob
    found = (model.vocabulary.word(number) for number in (-log_probs).argsort(kind="stable").tolist())
    return [word for word in found if word not in SPECIAL]


@lexicon.command(cls=options.Command)
def say(
    words: Annotated[list[str], Argument(metavar="WORD...", help="Words to pronounce.")],
    lexicon: Dictionary = ENGLISH / LEXICON,
    g2p: Rules = ENGLISH / PRONOUNCER,
    count: Annotated[int, Option(min=1, max=20, help="Most pronunciations to print for a word by rules.")] = 1,
) -> None:
    """Print pronunciations, from the lexicon or else by rules.

    The output is a dictionary that `build` reads.
    """
    opened, pronouncer = Lexicon.load(lexicon), cache(Pronouncer.load)
    form = Pronunciations(opened).form
    unspoken = []
    for given in words:
        parts = [given] if opened.pronunciations(form(given)) else normalize(given).split() or [given]
        for word in map(form, parts):
            spoken, source = opened.pronunciations(word), "lexicon"
            if not spoken:
                spoken, source = pronouncer(g2p).say_all(word, count), "rules"
            if not spoken:
                unspoken.append(word)
            for pronunciation in spoken:
                print(f"{word}\t{arpabet(pronunciation)}  # {source}")
    if unspoken:
        raise AsrError(f"cannot be pronounced: {', '.join(unspoken)}; no letter of it is in the dictionary of {g2p}")


@lexicon.command(cls=options.Command)
def spell(
    phones: Annotated[list[str], Argument(metavar="PHONES...", help="Phones of one word in ARPAbet, as in DH EH1 R.")],
    lexicon: Dictionary = ENGLISH / LEXICON,
    g2p: Rules = ENGLISH / PRONOUNCER,
) -> None:
    """Print the words that are pronounced so, or else a spelling."""
    pronunciation = parse(" ".join(phones))
    options.reject_if(not pronunciation, "PHONES", "there are none")
    found, source = Lexicon.load(lexicon).words(pronunciation), "lexicon"
    if not found:
        found, source = [*filter(None, [Pronouncer.load(g2p).spell(pronunciation)])], "rules"
    if not found:
        raise AsrError(
            f"cannot be spelled: {arpabet(pronunciation)}; too long, or no phone is in the dictionary of {g2p}"
        )
    for word in found:
        print(f"{word}\t{arpabet(pronunciation)}  # {source}")
