"""Uses of cxrseg as other tools' users report them: datasets, folders, processes, consoles, words and tables.

    python benchmarks/foreign_use.py [-k KIND]

Each row is one made-up case, tried on the real commands and library, in processes of their own where that matters: what
is right, what came, and whether it is right ('yes'), a clear refusal ('refused'), not right but said ('warned'), or
wrong, a traceback or silence ('NO'). The last table counts them by kind. `foreign_files.py` tries single files.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

from foreign_datasets import datasets
from foreign_outputs import outputs
from foreign_processes import consoles, processes
from foreign_tables import endings, tables
from foreign_training import reports, settings, validations
from foreign_trials import NO, REFUSED, WARNED, YES
from foreign_words import numbers, words


def main() -> None:
    """Run the trials, and print a row for each."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("-k", default="", help="only kinds with this in their name")
    wanted = arguments.parse_args().k
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    print("| kind | case | right | came | as it should be |\n|---|---|---|---|---|")
    makers = (datasets, outputs, validations, processes, consoles, reports, settings, words, numbers, endings, tables)
    for trial in (trial for make in makers for trial in make()):
        if wanted not in trial.kind:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                came, verdict = trial.run(Path(folder))
            except Exception as error:
                came, verdict = f"{type(error).__name__}: {error}", NO
        counts[trial.kind][verdict] += 1
        shown = " ".join(came.replace(folder, "FOLDER").split()).replace("|", "\\|")[:160]
        print(f"| {trial.kind} | {trial.name} | {trial.right} | {shown} | {verdict} |", flush=True)
    print(f"\n| kind | cases | {YES} | {REFUSED} | {WARNED} | {NO} |\n|---|---|---|---|---|---|")
    for kind, count in counts.items():
        print(
            f"| {kind} | {sum(count.values())} | {' | '.join(str(count[one]) for one in (YES, REFUSED, WARNED, NO))} |"
        )


if __name__ == "__main__":
    main()
