"""Bad input through `cxrseg predict`, `cxrseg serve` and `cxrseg node`: no crash, no hang, no file elsewhere.

    python benchmarks/hostile_files.py [--count 2100] [--seed 0] [--only serve] [--small] [-m MODEL] [--show]

Makes a corpus from a seed: bit flips, truncations, lies in DICOM headers, decompression bombs, odd encodings, absurd
sizes and hostile names, from small valid files of every kind. All of it goes through each interface, which is a real
process: one batch, uploads over 4 connections with hostile names in the header, and C-STORE of the data sets' bytes. At
the end a sound film must be answered. 'refused' is an answer with a reason; 'failed' is all else: an internal error, a
status of 500 or more, a traceback, no answer, a lost file. The time of a file is that of the processor, and what it
took at most: it counts what the process did beside. `serve` has a long --timeout, for busy machines.
The memory is the largest resident one of the process and its children, which a batch of 1,000 files or more has.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from cxrseg.inference.work import processors
from hostile_corpus import KINDS, Hostile, corpus, sound_film
from hostile_interfaces import SOUND, through_node, through_predict, through_serve
from hostile_process import ANSWERED, FAILED, REFUSED, Found

INTERFACES: Mapping[str, tuple[Callable[..., Found], int]] = {
    "predict": (through_predict, processors() + 1),
    "serve": (through_serve, processors() + 2),
    "node": (through_node, 1),
}
"""Name of each interface to what sends the corpus through it, and the number of its threads that read files."""


def files_of(count: int, seed: int = 0, *, large: bool = True) -> list[Hostile]:
    """The corpus, and the sound film at its end."""
    files = list(corpus(count, seed, large=large))
    return [*files, Hostile(SOUND, b"sound.dcm", sound_film())]


def table(name: str, found: Found) -> str:
    """The rows of an interface, one for each kind."""
    rows = []
    for kind in (*KINDS, SOUND):
        outcomes = [one for one in found.outcomes if one.kind == kind]
        counts = Counter(one.what for one in outcomes)
        cells = [len(outcomes), *(counts[what] for what in (ANSWERED, REFUSED, FAILED))]
        longest = max((one.seconds for one in outcomes), default=0)
        rows.append(f"| {name} | {kind} | {' | '.join(map(str, cells))} | {longest:.1f} s |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=INTERFACES)
    parser.add_argument("--small", action="store_true", help="leave out the bombs of many pixels")
    parser.add_argument("-m", "--model")
    parser.add_argument("--show", action="store_true", help="print each failure, and the longest times")
    given = parser.parse_args()
    files = files_of(given.count, given.seed, large=not given.small)
    model = ["-m", given.model] if given.model else []
    head = ("interface", "kind", "files", "answered", "refused", "failed", "longest")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    ends = []
    for name in [given.only] if given.only else INTERFACES:
        through, _ = INTERFACES[name]
        with tempfile.TemporaryDirectory() as folder:
            found = through(files, Path(folder), *model)
        print(table(name, found), flush=True)
        ends.append(
            f"{name}: {found.ended}; {found.log.count('Traceback')} tracebacks; at most {found.megabytes:.0f} MB, "
            f"{found.processes} processes; files outside: {', '.join(found.outside) or 'none'}"
        )
        for place, one in enumerate(found.outcomes) if given.show else ():
            if one.what == FAILED or one.seconds > 5:
                print(f"{name} {place} {one.kind}: {one.what} after {one.seconds:.1f} s: {one.why[:300]}")
        if given.show and "Traceback" in found.log:
            print(found.log[found.log.index("Traceback") :][:3000])
    print("\n".join(ends))


if __name__ == "__main__":
    main()
