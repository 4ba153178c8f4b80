"""Fill the tables of options in the packages' READMEs: `python -m pipelines.cli.readme`, or `make readme`."""

from pathlib import Path

from pipelines.base.option_tables import filled

__all__ = ["ROOT", "main"]

ROOT = Path(__file__).resolve().parents[2]
"""Below it lie the packages, each with its README."""


def main() -> None:
    """Write every README whose tables are not what the configuration's descriptions say today."""
    for path in sorted(ROOT.glob("*/README.md")):
        text = path.read_text(encoding="utf-8")
        if (new := filled(text)) != text:
            path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
