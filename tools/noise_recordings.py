"""Recordings of noise without speech from snapshots of public repositories, to train with and to judge by.

    python tools/noise_recordings.py SNAPSHOTS OUT

writes OUT/train.jsonl and OUT/judge.jsonl, manifests with empty texts, and their audio as FLAC, 16 kHz, 90 s at most.
SNAPSHOTS holds OWNER+NAME/repo, a git directory or a clone, of each repository of tools/noise_recordings.tsv, which has
the commit, and the licence and origin of each recording as its repository states them. Nothing of one origin is in both
manifests.
"""

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

import soundfile
from language_model_text import git_directory

from asr.audio.resample import SAMPLE_RATE
from asr.audio.sources import Excerpt, read
from asr.errors import AudioError

TABLE = Path(__file__).with_suffix(".tsv")
SECONDS = 90.0


def main() -> None:
    parser = argparse.ArgumentParser(description="Recordings of noise, from snapshots.")
    parser.add_argument("snapshots", type=Path, metavar="SNAPSHOTS")
    parser.add_argument("out", type=Path, metavar="OUT")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    entries: dict[str, list[dict[str, str | float]]] = {"train": [], "judge": []}
    with open(TABLE, encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    for row in rows:
        name = f"{row['repository'].partition('/')[2]}_{Path(row['path']).stem}"
        raw, audio = options.out / f"{name}.part{Path(row['path']).suffix}", options.out / f"{name}.flac"
        try:
            git = git_directory(options.snapshots, row["repository"])
            with open(raw, "wb") as file:
                blob = f"{row['commit']}:{row['path']}"
                subprocess.run(["git", "--git-dir", git, "show", blob], stdout=file, check=True)
            samples = read(Excerpt(raw, end=SECONDS))
        except (subprocess.CalledProcessError, AudioError) as error:
            print(f"left out: {row['repository']}, {row['path']}: {error}", file=sys.stderr)
            continue
        finally:
            raw.unlink(missing_ok=True)
        soundfile.write(audio, samples, SAMPLE_RATE)
        seconds = round(len(samples) / SAMPLE_RATE, 3)
        entries[row["use"]].append({"id": name, "audio": audio.name, "seconds": seconds, "text": ""})
    for use, listed in entries.items():
        (options.out / f"{use}.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in listed), "utf-8")
        minutes = sum(float(entry["seconds"]) for entry in listed) / 60
        print(f"{options.out / use}.jsonl: {len(listed)} recordings, {minutes:.1f} min")


if __name__ == "__main__":
    main()
