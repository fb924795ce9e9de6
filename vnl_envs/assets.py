"""Where the packaged data files are."""

from __future__ import annotations

from pathlib import Path


def asset(*parts: str) -> Path:
    """Path of a packaged data file, in an installed wheel or in a checkout.

    Raises:
        FileNotFoundError: there is no such file.
    """
    here = Path(__file__).parent
    for root in (here / "assets", here.parent / "assets"):
        path = root.joinpath(*parts)
        if path.exists():
            return path
    raise FileNotFoundError(f"no packaged file {'/'.join(parts)!r}")
