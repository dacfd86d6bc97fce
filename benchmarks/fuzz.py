"""Mutated input for the intake: any bytes must give a table or one clear error line, in bounded time and memory.

    python benchmarks/fuzz.py --n 10000

Valid files of every kind that the intake reads are damaged at random (bits, slices, extreme numbers, hostile words) and
read as a data folder. PNG chunks and npz members get correct checksums again, so that the damage reaches the decoder.
Reading happens in separate processes with a memory limit; one that prints nothing for too long is killed, counted as a
hang, and replaced. Each input depends on (seed, kind, number) only: `--kind png --only 17` reads that one input again.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import selectors
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from fairvlm_core.errors import InputError
from fairvlm_core.pairs import PairTable

SECONDS = 10.0  # an input that takes longer counts as a hang
MEMORY = 1536 * 2**20  # address space of a reading process above what it has after its imports
_LONGEST_LINE = 1000
_LIMITS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_WORDS = (
    b'"', b'""', b",", b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"\xe9", b"\xef\xbb\xbf", b"'", b"=1+1", b"../../etc/passwd",
    b"/dev/zero", b"NaN", b"-1", b"1e999", b"null", b"[" * 3000, b"{" * 50, b"9" * 400, b"A" * 70_000, b"\xed\xa0\x80",
    b"\xe2\x80\xae", b"true", b'"schema": 99', b"pair_id", b"manifest.csv", b"dataset.json", b"images/0.png", b";", b"\t",
)  # fmt: skip
_SHAPES = (
    "()",
    "(0,)",
    "(-1, 4)",
    "(4294967296, 4294967296)",
    "(60000, 60000)",
    "(4, 4, 9)",
    "4",
    "None",
    "(1e9,)",
    "'",
)
_TYPES = ("|u1", "<f8", "|O", "<U4", "<U99999999", "|V8", "<M8[s]", "(((", "[('a', '<i4')]", "<c16", ">f2", "|b1")


def sound_image(kind: str) -> bytes:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (24, 20, 3), np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, {"png": "PNG", "jpeg": "JPEG", "tiff": "TIFF"}[kind])
    return buffer.getvalue()


def sound_npz() -> bytes:
    buffer = io.BytesIO()
    members = {name: np.array(1) for name in ("glaucoma", "race", "gender", "ethnicity", "language", "age")}
    np.savez_compressed(
        buffer, slo_fundus=np.arange(480, dtype=np.uint8).reshape(24, 20), note=np.array("a"), **members
    )
    return buffer.getvalue()


def sound_rows() -> pd.DataFrame:
    rows = np.arange(12)
    return pd.DataFrame(
        {
            "pair_id": [f"p{i}" for i in rows],
            "patient_id": [f"q{i}" for i in rows],
            "image": "images/0.png",
            "text": [f'Note {i}, "cup" 0.{i}' for i in rows],
            "label": rows % 2,
            "split": np.array(["train", "val", "test"])[rows % 3],
            "race": np.array(["Black", "White"])[rows // 2 % 2],
        }
    )


def sound_table(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "parquet":
        sound_rows().to_parquet(buffer, index=False)
        return buffer.getvalue()
    return sound_rows().to_csv(index=False).encode()


def sound_description() -> bytes:
    return json.dumps(
        {
            "schema": 1, "name": "n", "table": "manifest.csv", "images": "", "prompts": ["a", "b"],
            "label_names": ["c", "d"],
            "columns": {"image": "image", "text": "text"}, "label": {"positive": ["1"], "negative": ["0"]},
            "attributes": {"race": {"column": "race", "names": {"Black": "B"}}, "n": {"column": "label", "bins": [0, 1]}},
            "splits": {"train": 0.6, "val": 0.2, "test": 0.2},
        }
    ).encode()  # fmt: skip


def sound_planted() -> bytes:
    return b"pair_id,kind\n" + b"".join(b"p%d,%s\n" % (i, (b"clean", b"mismatch")[i % 2]) for i in range(12))


def damage(data: bytes, rng: np.random.Generator, *, text: bool = False) -> bytes:
    """Make one or a few random changes; text mostly stays text, so that the change gets past the decoder."""
    out = bytearray(data)
    for _ in range(min(8, int(rng.geometric(0.5)))):
        at = int(rng.integers(len(out) + 1))
        end = min(len(out), at + int(rng.integers(1, 40)))
        match int(rng.choice((1, 2, 3, 6, 6)) if text and rng.random() < 0.75 else rng.integers(8)):
            case 0 if at < len(out):
                out[at] ^= 1 << int(rng.integers(8))
            case 1 if at < len(out):
                out[at] = int(rng.integers(32, 127) if text else rng.integers(256))
            case 2:
                del out[at:end]
            case 3:
                out[at:at] = out[at:end] * int(rng.integers(1, 4))
            case 4:
                out[at:at] = rng.bytes(int(rng.integers(1, 20)))
            case 5:
                number = _LIMITS[int(rng.integers(len(_LIMITS)))]
                out[at : at + 4] = struct.pack((">I", "<I")[int(rng.integers(2))], number)
            case 6:
                out[at:at] = _WORDS[int(rng.integers(len(_WORDS)))]
            case 7 if rng.random() < 0.3:
                del out[at:]
    return bytes(out)


def damaged_png(rng: np.random.Generator) -> bytes:
    """Damaged, missing, doubled or reordered chunks with correct checksums; sometimes random damage anywhere."""
    data = sound_image("png")
    if rng.random() < 0.4:
        return damage(data, rng)
    chunks, at = [], 8
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    extra = (
        (b"tRNS", b"\0" * 6),
        (b"PLTE", b"abc" * 99),
        (b"eXIf", b"II*\0"),
        (b"acTL", b"\0" * 8),
        (b"zTXt", b"k\0\0x"),
    )
    chunks.insert(int(rng.integers(1, len(chunks))), extra[int(rng.integers(len(extra)))])
    which = int(rng.integers(len(chunks)))
    chunks[which] = (chunks[which][0], damage(chunks[which][1], rng))
    if rng.random() < 0.2:
        rng.shuffle(chunks)
    out = data[:8]
    for name, content in chunks:
        out += struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return out


def damaged_npz(rng: np.random.Generator) -> bytes:
    """A valid zip in which one member has another header or content; sometimes random damage anywhere."""
    if rng.random() < 0.4:
        return damage(sound_npz(), rng)
    with zipfile.ZipFile(io.BytesIO(sound_npz())) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = list(members)[int(rng.integers(len(members)))]
    content = members[name]
    if rng.random() < 0.5:
        shape, kind = (options[int(rng.integers(len(options)))] for options in (_SHAPES, _TYPES))
        header = f"{{'descr': {kind!r}, 'fortran_order': {bool(rng.integers(2))}, 'shape': {shape}}}".encode()
        header = damage(header, rng) if rng.random() < 0.3 else header
        version = bytes([(1, 2, 3, 9)[int(rng.integers(4))], 0])
        length = struct.pack("<H" if version[0] == 1 else "<I", len(header) + 1)
        content = b"\x93NUMPY" + version + length + header + b"\n" + content[-480:]
    else:
        content = damage(content, rng)
    members[name] = content
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, value in members.items():
            archive.writestr(key, value)
    return buffer.getvalue()


KINDS: dict[str, Callable[[np.random.Generator], bytes]] = {
    "csv": lambda rng: damage(sound_table("csv"), rng, text=True),
    "parquet": lambda rng: damage(sound_table("parquet"), rng),
    "json": lambda rng: damage(sound_description(), rng, text=True),
    "planted": lambda rng: damage(sound_planted(), rng, text=True),
    "png": damaged_png,
    "jpeg": lambda rng: damage(sound_image("jpeg"), rng),
    "tiff": lambda rng: damage(sound_image("tiff"), rng),
    "npz": damaged_npz,
    "notes": lambda rng: damage(b"filename,use,note\ndata_00001.npz,training,a short note\n", rng, text=True),
}


def mutated(kind: str, number: int, seed: int = 0) -> bytes:
    """The input with this number; always the same bytes."""
    return KINDS[kind](np.random.default_rng([seed, list(KINDS).index(kind), number]))


def sound_folder(kind: str, folder: Path) -> Path:
    """Write a valid data folder; returns the file that will be replaced by a mutated one."""
    if kind in ("npz", "notes"):
        for part, number in (("Training", 1), ("Validation", 2), ("Test", 3)):
            (folder / part).mkdir(parents=True)
            (folder / part / f"data_0000{number}.npz").write_bytes(sound_npz())
        return folder / ("gpt-4_summarized_notes.csv" if kind == "notes" else "Training/data_00001.npz")
    (folder / "images").mkdir(parents=True)
    image = folder / "images" / "0.png"
    image.write_bytes(sound_image(kind if kind in ("jpeg", "tiff") else "png"))
    table = folder / ("manifest.parquet" if kind == "parquet" else "manifest.csv")
    table.write_bytes(sound_table("parquet" if kind == "parquet" else "csv"))
    others = {"json": "dataset.json", "planted": "planted.csv"}
    return image if kind in ("png", "jpeg", "tiff") else folder / others[kind] if kind in others else table


def outcome_of(folder: Path) -> str:
    """Read a data folder with all its files: "table", "error" (one clear line), or what went wrong."""
    try:
        table = PairTable.read(folder, max_refused_share=1)
        table.planted()
        table.image(0)
    except InputError as error:
        line = str(error)
        clear = "\n" not in line and line.isprintable() and len(line) <= _LONGEST_LINE
        return "error" if clear else f"unclear line: {line[:200]!r}"
    except BaseException as error:
        return f"traceback: {type(error).__name__}: {str(error)[:200]}"
    return "table"


def peak_memory() -> int:
    """Peak memory of this process in bytes; ru_maxrss would include the parent's memory at the fork."""
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def work(kind: str, start: int, stop: int, seed: int) -> None:
    """Run as a reading process: print one line of JSON for every input."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    with tempfile.TemporaryDirectory() as place:
        for number in range(start, stop):
            folder = Path(place) / "data"
            shutil.rmtree(folder, ignore_errors=True)
            sound_folder(kind, folder).write_bytes(mutated(kind, number, seed))
            tick = time.perf_counter()
            outcome = outcome_of(folder)
            seconds = time.perf_counter() - tick
            print(
                json.dumps({"number": number, "outcome": outcome, "seconds": seconds, "peak": peak_memory()}),
                flush=True,
            )


@dataclass
class Found:
    """Outcomes of all inputs of one kind."""

    kind: str
    outcomes: Counter = field(default_factory=Counter)
    slowest: float = 0.0
    peak: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def n(self) -> int:
        return sum(self.outcomes.values())


def fuzz(kind: str, n: int, seed: int = 0) -> Found:
    """Read n mutated inputs of one kind; a process that dies or hangs is replaced."""
    found, next_number = Found(kind), 0
    while next_number < n:
        next_number = _watch(kind, next_number, n, seed, found)
    return found


def _watch(kind: str, start: int, stop: int, seed: int, found: Found) -> int:
    """Follow one reading process until it is done, dies or hangs; returns the next number."""
    command = [sys.executable, "-W", "ignore", __file__, "--work", kind, str(start), str(stop), "--seed", str(seed)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    number = start
    try:
        for line in _lines(process, first=60.0):
            values = json.loads(line)
            number = values["number"] + 1
            outcome = values["outcome"]
            found.outcomes[outcome.split(":")[0]] += 1
            found.slowest, found.peak = max(found.slowest, values["seconds"]), max(found.peak, values["peak"])
            if outcome not in ("table", "error"):
                found.faults.append(f"{kind} {values['number']}: {outcome}")
        if number < stop:
            end = "hang" if process.poll() is None else f"died ({process.returncode})"
            found.outcomes[end.split(" ")[0]] += 1
            found.faults.append(f"{kind} {number}: {end}")
            number += 1
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    return number


def _lines(process: subprocess.Popen, first: float) -> Iterator[bytes]:
    """Yield lines as they come, until the process ends or no line comes in time."""
    assert process.stdout is not None
    stream, rest, patience = process.stdout, b"", first
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while selector.select(patience):
            piece = stream.read1(1 << 16)
            if not piece:
                process.wait()
                return
            *lines, rest = (rest + piece).split(b"\n")
            yield from lines
            patience = SECONDS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=10_000, help="inputs in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, help="one kind instead of all")
    parser.add_argument("--only", type=int, help="with --kind: read this one input here and show what comes of it")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work[0], int(options.work[1]), int(options.work[2]), options.seed)
        return 0
    if options.only is not None and options.kind:
        with tempfile.TemporaryDirectory() as place:
            sound_folder(options.kind, Path(place) / "d").write_bytes(mutated(options.kind, options.only, options.seed))
            print(PairTable.read(Path(place) / "d", max_refused_share=1))
        return 0
    kinds = [options.kind] if options.kind else list(KINDS)
    started, all_found = time.time(), []
    print(f"{'kind':<9}{'inputs':>7}{'table':>7}{'error':>7}{'else':>6}{'slowest':>10}{'peak':>10}")
    for i, kind in enumerate(kinds):
        found = fuzz(kind, options.n // len(kinds) + (i < options.n % len(kinds)), options.seed)
        all_found.append(found)
        good = found.outcomes["table"], found.outcomes["error"]
        print(
            f"{kind:<9}{found.n:>7}{good[0]:>7}{good[1]:>7}{found.n - sum(good):>6}{found.slowest:>8.2f} s"
            f"{found.peak / 2**20:>6.0f} MiB",
            flush=True,
        )
    outcomes = sum((found.outcomes for found in all_found), Counter())
    print(
        f"{sum(outcomes.values())} inputs in {time.time() - started:.0f} s: {outcomes['traceback']} tracebacks, "
        f"{outcomes['hang']} hangs, {outcomes['died']} deaths, {outcomes['unclear line']} unclear lines; slowest "
        f"{max(found.slowest for found in all_found):.2f} s, peak {max(found.peak for found in all_found) / 2**20:.0f} MiB"
    )
    faults = [fault for found in all_found for fault in found.faults]
    print("\n".join(faults[:50]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
