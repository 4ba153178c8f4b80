"""What the benchmarks on Online Retail share: their command line, and the data set as a project."""

import argparse
import tempfile
from pathlib import Path

from pipelines.config import Config, load_config
from pipelines.datasets import load_dataset
from pipelines.project import write_dataset


def project(doc: str) -> tuple[Config, Path]:
    """The configuration of Online Retail written to ``--to`` (a new folder by default), and that folder.

    Args:
        doc: What `--help` says.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=None)
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    folder = arguments.to or Path(tempfile.mkdtemp(prefix="nightrank-online-retail-"))
    return load_config(write_dataset(load_dataset("online-retail"), folder), arguments.overrides), folder
