"""Makes `python -m cxrseg` work, which torchrun needs."""

from cxrseg.cli import main

if __name__ == "__main__":
    main()
