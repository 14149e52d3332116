"""`python -m cxrseg`, as torchrun calls it."""

from cxrseg.cli import main

if __name__ == "__main__":
    main()
