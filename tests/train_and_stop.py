"""`cxrseg train` that gets SIGTERM in the middle of a step, as from outside: a script for tests/training.

The first argument is the number of the step. The others are those of cxrseg.
"""

import itertools
import os
import signal
import sys
from typing import Any

from cxrseg.cli import main
from cxrseg.training.lightning_module import Learner

last = int(sys.argv.pop(1))
count = itertools.count(1)
step = Learner.training_step


def stop_in_step(self: Learner, *arguments: Any) -> Any:
    if next(count) == last:
        os.kill(os.getpid(), signal.SIGTERM)
    return step(self, *arguments)


Learner.training_step = stop_in_step  # type: ignore[method-assign]
main()
