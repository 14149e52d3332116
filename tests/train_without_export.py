"""`cxrseg train` without the export and figures at its end: a script for torchrun, in tests/training."""

from cxrseg.cli import main
from cxrseg.training import fit

fit._finish = lambda *_: None
main()
