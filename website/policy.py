"""A content security policy for generated pages."""

from __future__ import annotations

import base64
import hashlib
import html
import re

_SCRIPT = re.compile(r"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", re.S)
_STYLE = re.compile(r"<style[^>]*>(.*?)</style>", re.S)
_STYLED = re.compile(r"""<[a-zA-Z][^<>]*?\sstyle=(?:"([^"]*)"|'([^']*)')""")
_HEAD = re.compile(r"<head>")


def confine(page: str) -> str:
    """A page that may load only files of its site, and may run only its own scripts and styles."""
    scripts = ["'self'", *dict.fromkeys(map(_hash, _SCRIPT.findall(page)))]
    attributes = [html.unescape(a or b) for a, b in _STYLED.findall(page)]
    styles = ["'self'", *dict.fromkeys(map(_hash, [*_STYLE.findall(page), *attributes]))]
    if attributes:
        styles.insert(1, "'unsafe-hashes'")
    policy = (
        f"default-src 'none'; script-src {' '.join(scripts)}; style-src {' '.join(styles)}; "
        "img-src 'self' data:; media-src 'self'; font-src 'self'; base-uri 'none'; "
        "form-action 'self'"
    )
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    return _HEAD.sub(lambda match: match[0] + meta, page, count=1)


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
