"""Where the packaged data files are."""

from __future__ import annotations

from pathlib import Path


def packaged(*parts: str) -> Path:
    """Path of a packaged file or folder, in an installed wheel or in a checkout.

    Raises:
        FileNotFoundError: there is none.
    """
    here = Path(__file__).parent
    for root in (here, here.parent):
        path = root.joinpath(*parts)
        if path.exists():
            return path
    raise FileNotFoundError(f"no packaged file {'/'.join(parts)!r}")


def asset(*parts: str) -> Path:
    """Path of a packaged file of `assets`.

    Raises:
        FileNotFoundError: there is none.
    """
    return packaged("assets", *parts)
