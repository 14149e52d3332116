"""`cxrseg train` that is killed at a given place, as by SIGKILL from outside: a script for tests/training.

The first argument is 'step' or 'checkpoint', the second the number of the step, or of the checkpoint in the middle of
which it is killed. The others are those of cxrseg.
"""

import io
import itertools
import os
import signal
import sys
from typing import Any, BinaryIO

from cxrseg.cli import main
from cxrseg.training import checkpoints
from cxrseg.training.lightning_module import Learner

place, last = sys.argv[1], int(sys.argv[2])
del sys.argv[1:3]
count = itertools.count(1)
save, step = checkpoints._save, Learner.training_step


def die_in_checkpoint(checkpoint: dict[str, Any], file: BinaryIO) -> None:
    if next(count) == last:
        whole = io.BytesIO()
        save(checkpoint, whole)
        file.write(whole.getvalue()[: whole.tell() // 2])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    save(checkpoint, file)


def die_in_step(self: Learner, *arguments: Any) -> Any:
    if next(count) == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *arguments)


if place == "checkpoint":
    checkpoints._save = die_in_checkpoint
else:
    Learner.training_step = die_in_step  # type: ignore[method-assign]
main()
