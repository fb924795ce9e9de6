"""HTML pages from templates, where whatever is filled in is escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2


def environment(package: str, folder: str = "templates") -> jinja2.Environment:
    """The templates in a folder of a package; a name that a template lacks is an error."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader(package, folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
