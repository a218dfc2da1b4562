"""Recordings of noise without speech from snapshots of public repositories, to train with and to judge by.

    python tools/noise_recordings.py SNAPSHOTS OUT

writes OUT/train.jsonl and OUT/judge.jsonl, manifests with empty texts, and their audio as FLAC, 16 kHz, 90 s at most.
SNAPSHOTS holds OWNER+NAME/repo, a git directory or a clone, of each repository of tools/noise_recordings.tsv, which has
the licence and the origin of each recording, as its repository states them. Nothing of one origin is in both manifests.
"""

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

import soundfile

from asr.audio.resample import SAMPLE_RATE
from asr.audio.sources import Excerpt, read
from asr.errors import AudioError

TABLE = Path(__file__).with_suffix(".tsv")
SECONDS = 90.0


def extract(snapshots: Path, repository: str, path: str, target: Path) -> None:
    """A file of a snapshot."""
    folder = snapshots / repository.replace("/", "+") / "repo"
    git = folder / ".git" if (folder / ".git").exists() else folder
    if not git.exists():
        sys.exit(f"{repository}: no snapshot in {snapshots}; bring it there first")
    with open(target, "wb") as file:
        subprocess.run(["git", "--git-dir", git, "show", f"HEAD:{path}"], stdout=file, check=True)


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
            extract(options.snapshots, row["repository"], row["path"], raw)
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
