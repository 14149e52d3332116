"""Write a model file again, so that it has the checksum of files that cxrseg writes today.

    python benchmarks/add_checksum.py src/cxrseg/weights/cxrseg.onnx

The graph and the metadata stay the same. Files of `cxrseg train` and benchmarks/release.py have the checksum already.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cxrseg.model_file import has_checksum, model_sha256, read_model, write_model


def main() -> None:
    """Read the command line, and write the files again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    for model in parser.parse_args().models:
        if not has_checksum(model):
            write_model(model, model.read_bytes(), read_model(model)[1])
        print(f"{model}: {model_sha256(model)}")


if __name__ == "__main__":
    main()
