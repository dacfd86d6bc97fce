"""Data sets of the benchmark: SynthFundus with planted bad pairs and disparities, real images, an independent generator.

    python benchmarks/worlds.py [--worlds none,derm] [--seed 0] [--data FOLDER] [--cache FOLDER] [--sheets FOLDER]

prints the content of each world; --sheets also writes a contact sheet of each. The real images are read from
../shared/data beside the checkout, from --data or from $FAIRVLM_REAL_DATA; nothing is written there. Planted pairs are in
training only; another device is in all splits. Sources: HAM10000 (Tschandl et al., Scientific Data 5, 180161, 2018) and the
COVID-19 chest X-ray collection (Cohen et al., arXiv 2006.11988).
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import discs
from fairvlm_core import PairTable
from fairvlm_core.errors import InputError
from fairvlm_core.models import load_clip
from fairvlm_core.synth import SynthConfig, other_device, synthesize, write_synth

Sizes = tuple[int, int, int]
SHORTCUTS = 0.03
EVEN: dict[str, Any] = {"mismatch_rate": 0.15, "shortcut_rate": SHORTCUTS}
SYNTH: dict[str, dict[str, Any]] = {
    "none": {"mismatch_rate": 0.0, "shortcut_rate": 0.0},
    "even": EVEN,
    "skewed": EVEN | {"mismatch_rate": {"Asian": 0.35, "Black": 0.10, "White": 0.05}},
    "heavy": EVEN | {"mismatch_rate": {"Asian": 0.45, "*": 0.20}},
}
for _name in ("device", "few", "notes", "labels"):
    SYNTH[_name] = SYNTH["none"] | {"disparity": (f"race=Asian:{_name}",)}
SYNTH["device-even"] = SYNTH["device"] | {"mismatch_rate": 0.15}
DERM = ("derm", "derm-swapped", "derm-device", "derm-device-swapped")
CXR = ("cxr", "cxr-swapped", "cxr-device")
DISCS = ("discs", "discs-device-noisy")
NAMES = (*SYNTH, *DERM, *CXR, *DISCS)

SWAPPED = 0.15  # share of the training notes of real images that are replaced
REAL_SPLITS = {"train": 0.60, "val": 0.15, "test": 0.25}
DEVICE_GROUP = ("sex", "Female")  # of the real images
DEVICE_SIDE = 128  # pixels of the short side of images from the other device
DIAGNOSES = {
    "akiec": "actinic keratosis or intraepithelial carcinoma",
    "bcc": "basal cell carcinoma",
    "bkl": "benign keratosis",
    "df": "dermatofibroma",
    "mel": "melanoma",
    "nv": "melanocytic nevus",
    "vasc": "vascular lesion",
}
MALIGNANT = ("mel", "bcc", "akiec")
DERM_NOTES = (
    "{dx} on the {place}, patient aged {age}.",
    "Dermatoscopy of the {place}: {dx}. Age {age}.",
    "Lesion of the {place} at age {age}, diagnosed as {dx}.",
    "{dx}, {place}, {age} years.",
)
DERM_PROMPTS = (
    "Melanocytic nevus, benign keratosis, dermatofibroma or vascular lesion.",
    "Melanoma, basal cell carcinoma or actinic keratosis.",
)


@dataclass(frozen=True)
class World:
    """One data set with its truth.

    Attributes
    ----------
    table
        As a method gets it, with planted bad pairs.
    repaired
        The same pairs with their right notes and labels.
    kind : str ndarray of shape (N,)
        "clean", "mismatch" or "shortcut" of each pair; a pair whose label alone is wrong is "clean".
    attribute
        The attribute that the world is about.
    """

    table: PairTable
    repaired: PairTable
    kind: np.ndarray
    attribute: str


def make_world(
    name: str, seed: int, sizes: Sizes | None = None, cache: Path | None = None, data: Path | None = None
) -> World:
    """One world of `NAMES`.

    Parameters
    ----------
    name, seed
        The seed changes the drawn set, or splits and swaps of real images.
    sizes
        Training, validation and test pairs of drawn sets: 2,000, 400, 3,000 of SynthFundus and 1,500, 400, 2,000 discs if
        None. Real images are always used in full.
    cache
        Folder in which drawn images are kept for the next call; None: a temporary one, which lasts as long as the process.
    data
        Folder with ``derm`` and ``cxr``; None: $FAIRVLM_REAL_DATA, else ../shared/data beside the checkout.

    Raises
    ------
    InputError
        An unknown name, or real images that are not there.
    """
    if name not in NAMES:
        raise InputError(f"world: {name!r}; choose one of {', '.join(NAMES)}")
    reason = why_missing(name, data)
    if reason is not None:
        raise InputError(reason)
    cache = Path(_scratch().name if cache is None else cache)
    if name in SYNTH or name in DISCS:
        if sizes is None:
            sizes = (2000, 400, 3000) if name in SYNTH else (1500, 400, 2000)
        write = _write_synth if name in SYNTH else _write_discs
        folder = _once(
            cache / f"{name}-{seed}-{'-'.join(map(str, sizes))}", functools.partial(write, name, seed, sizes)
        )
        return _planted_world(folder)
    source = real_data(data)
    table = _derm(source / "derm", seed) if name in DERM else _cxr(source / "cxr", seed)
    if "device" in name:
        table = from_other_device(table, cache / f"{name.split('-')[0]}-device")
    notes, kind = swap(table, seed) if name.endswith("swapped") else (_texts(table), np.full(len(table), "clean"))
    return World(_with(table, notes), table, kind, DEVICE_GROUP[0])


def why_missing(name: str, data: Path | None = None) -> str | None:
    """Why a world cannot be made here, None where it can."""
    part = name.split("-")[0]
    if part not in ("derm", "cxr") or (real_data(data) / part).is_dir():
        return None
    return f"{name}: there is no folder {real_data(data) / part}; set FAIRVLM_REAL_DATA"


def swap(table: PairTable, seed: int, share: float = SWAPPED) -> tuple[np.ndarray, np.ndarray]:
    """Notes with a share of the training notes replaced by those of other training patients, and the kinds of the pairs.

    Every second replaced note is one of the other label, the others are any. A note is never replaced by an equal one.
    """
    rng = np.random.default_rng([seed, 78])
    train = np.flatnonzero(np.asarray(table.frame["split"], str) == "train")
    right, patient = _texts(table), table.frame["patient_id"].to_numpy(str)
    notes, kind = right.copy(), np.full(len(table), "clean", dtype="U8")
    for turn, i in enumerate(rng.choice(train, round(share * len(train)), replace=False)):
        fits = (patient[train] != patient[i]) & (right[train] != right[i])
        if turn % 2:
            fits &= table.labels[train] != table.labels[i]
        notes[i], kind[i] = right[rng.choice(train[fits])], "mismatch"
    return notes, kind


def real_data(data: Path | None) -> Path:
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(data or os.environ.get("FAIRVLM_REAL_DATA") or beside)


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory:
    """A folder that is removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="worlds-")


def _once(folder: Path, write: Callable[[Path], Any]) -> Path:
    """The folder, written by the first call; of two processes at once, the second one's copy is thrown away."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as staged:
            write(Path(staged) / "data")
            try:
                (Path(staged) / "data").rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise
    return folder


def _texts(table: PairTable) -> np.ndarray:
    return table.frame["text"].to_numpy(object).copy()


def _with(table: PairTable, notes: np.ndarray, labels: np.ndarray | None = None) -> PairTable:
    """The table with other notes and labels."""
    columns = {"text": pd.array(notes, dtype=table.frame["text"].dtype)}
    if labels is not None:
        columns["label"] = labels.astype(np.int8)
    return replace(table, frame=table.frame.assign(**columns))


# Drawn sets ---------------------------------------------------------------------------------------------------------


def _write_synth(name: str, seed: int, sizes: Sizes, folder: Path) -> None:
    config = SynthConfig(*sizes, seed=2000 + seed, **SYNTH[name])
    write_synth(synthesize(config, workers=1), folder)


def _write_discs(name: str, seed: int, sizes: Sizes, folder: Path) -> None:
    made = discs.make_discs(seed, sizes, device_noisy=name == "discs-device-noisy")
    (folder / "images").mkdir(parents=True)
    paths = [f"images/{pair_id}.png" for pair_id in made.frame["pair_id"]]
    for path, image in zip(paths, made.images, strict=True):
        Image.fromarray(image).save(folder / path, compress_level=1)
    made.frame.assign(image=paths).to_csv(folder / "manifest.csv", index=False)
    kind = np.where(made.frame["text"].to_numpy(object) == made.right, "clean", "mismatch")
    planted = pd.DataFrame({"pair_id": made.frame["pair_id"], "kind": kind, "clean_text": made.right})
    planted.to_csv(folder / "planted.csv", index=False)
    description = {"schema": 1, "name": "discs", "prompts": list(discs.PROMPTS), "attributes": ["race", "gender"]}
    (folder / "dataset.json").write_text(json.dumps(description))


def _planted_world(folder: Path) -> World:
    table = PairTable.read(folder, check_images=False)
    planted = table.planted()
    assert planted is not None
    labels = planted["clean_label"].astype(np.int8).to_numpy() if "clean_label" in planted else None
    repaired = _with(table, planted["clean_text"].to_numpy(object), labels)
    return World(table, repaired, planted["kind"].to_numpy(str), "race")


# Real images --------------------------------------------------------------------------------------------------------


def _derm(folder: Path, seed: int) -> PairTable:
    """Dermatoscopic images; the lesion counts as the patient. The note is composed from diagnosis, place and age."""
    rows = pd.read_csv(folder / "HAM10000_metadata.csv")
    rng = np.random.default_rng(79)  # the wording belongs to the pair, whatever the seed
    age = rows["age"].map("{:.0f}".format).where(rows["age"].notna(), "unknown")
    place = rows["localization"].where(rows["localization"] != "unknown", "skin")
    text = [
        DERM_NOTES[template].format(dx=DIAGNOSES[dx], place=where, age=years)
        for template, dx, where, years in zip(
            rng.integers(len(DERM_NOTES), size=len(rows)), rows["dx"], place, age, strict=True
        )
    ]
    bands = pd.cut(rows["age"], [-1, 39, 59, 74, 200], labels=["<40", "40-59", "60-74", "75+"])
    frame = pd.DataFrame(
        {
            "pair_id": rows["image_id"],
            "patient_id": rows["lesion_id"],
            "image": "images/" + rows["image_id"] + ".jpg",
            "text": [note[0].upper() + note[1:] for note in text],
            "label": rows["dx"].isin(MALIGNANT).astype(int),
            "sex": rows["sex"].str.capitalize(),
            "age_band": bands.astype(object).where(bands.notna(), None),
        }
    )
    return _split(frame, folder, "derm", DERM_PROMPTS, seed)


def _cxr(folder: Path, seed: int) -> PairTable:
    """Chest images with their own notes; the label is COVID-19."""
    table = PairTable.read(folder)
    columns = ["pair_id", "patient_id", "image", "text", "label", *table.attributes]
    frame = table.frame[columns].astype({name: str for name in table.attributes})
    return _split(frame, folder, "cxr", table.info.prompts, seed)


def _split(frame: pd.DataFrame, folder: Path, name: str, prompts: tuple[str, str], seed: int) -> PairTable:
    """A table with splits by patient, made from the seed."""
    return PairTable.from_frame(
        frame, attributes=("sex", "age_band"), root=folder, name=name, prompts=prompts, splits=REAL_SPLITS, seed=seed
    )


def from_other_device(table: PairTable, folder: Path) -> PairTable:
    """The table with the images of `DEVICE_GROUP` from another device; a copy of all images lies in the cache."""
    attribute, group = DEVICE_GROUP
    other = table.attribute(attribute) == group
    names = [
        f"{pair_id}.png" if changed else Path(path).name
        for pair_id, path, changed in zip(table.pair_ids, table.frame["image"], other, strict=True)
    ]

    def write(staged: Path) -> None:
        (staged / "images").mkdir(parents=True)
        for i in range(len(table)):
            if not other[i]:
                shutil.copyfile(table.root / table.frame["image"].iat[i], staged / "images" / names[i])
                continue
            image = table.image(i)
            image = ImageOps.scale(image, DEVICE_SIDE / min(image.size)) if min(image.size) > DEVICE_SIDE else image
            # The noise belongs to the image: the same with every seed of splits.
            rng = np.random.default_rng([80, *table.pair_ids[i].encode()])
            Image.fromarray(other_device(np.asarray(image), rng)).save(staged / "images" / names[i], compress_level=1)

    _once(folder, write)
    images = pd.array([f"images/{name}" for name in names], dtype=table.frame["image"].dtype)
    return replace(table, frame=table.frame.assign(image=images), root=folder, image_root=folder)


# The command --------------------------------------------------------------------------------------------------------


def describe(name: str, world: World) -> str:
    """One row of the table."""
    frame, clip = world.table.frame, load_clip("tiny")
    split = np.asarray(frame["split"], str)
    train, test = split == "train", split == "test"
    groups = pd.Series(world.table.attribute(world.attribute))
    counts = ", ".join(
        f"{group} {(groups[train] == group).sum()} / {(groups[test] == group).sum()}" for group in groups.unique()
    )
    words = pd.Series(re.findall(r"[a-z]+", " ".join(world.repaired.frame["text"]).lower())).value_counts()
    known = np.array([len(clip.tokenizer.encode(word)) == 1 for word in words.index])
    cut = clip.tokens(list(frame["text"]))[1].mean()
    wrong_labels = (world.table.labels != world.repaired.labels)[train].mean()
    sizes = " / ".join(str((split == part).sum()) for part in ("train", "val", "test"))
    rates = " / ".join(f"{world.repaired.labels[part].mean():.2f}" for part in (train, test))
    shares = " | ".join(f"{value:.1%}" for value in (
        *((world.kind[train] == kind).mean() for kind in ("mismatch", "shortcut")), wrong_labels,
        words[known].sum() / words.sum(), known.mean(), cut,
    ))  # fmt: skip
    return f"| {name} | {sizes} | {rates} | {counts} | {shares} |"


def sheet(world: World, columns: int = 8) -> Image.Image:
    """Training images, one row a group of the world's attribute and label."""
    frame, groups = world.table.frame, world.table.attribute(world.attribute)
    rows = []
    for group in np.unique(groups):
        for label in (0, 1):
            held = np.flatnonzero((groups == group) & (world.repaired.labels == label) & (frame["split"] == "train"))
            tiles = [np.asarray(ImageOps.pad(world.table.image(i), (96, 96))) for i in held[:columns]]
            tiles += [np.zeros((96, 96, 3), np.uint8)] * (columns - len(tiles))
            rows.append(np.hstack(tiles))
    return Image.fromarray(np.vstack(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", default=",".join(NAMES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="folder with derm and cxr")
    parser.add_argument("--cache", type=Path, help="folder in which drawn images are kept")
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets")
    options = parser.parse_args()
    print(
        "| world | train / val / test | positive, train / test | group, train / test | wrong notes | shared markers | "
        "wrong labels | words known to `tiny` | different words known | notes cut |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in options.worlds.split(","):
        reason = why_missing(name, options.data)
        if reason is not None:
            print(reason, file=sys.stderr)
            continue
        world = make_world(name, options.seed, cache=options.cache, data=options.data)
        print(describe(name, world), flush=True)
        if options.sheets is not None:
            options.sheets.mkdir(parents=True, exist_ok=True)
            sheet(world).save(options.sheets / f"{name}.png")


if __name__ == "__main__":
    main()
