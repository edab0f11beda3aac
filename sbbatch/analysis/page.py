"""One HTML page with all that a reader needs: no script, no file beside it, no network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1000px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
table { border-collapse: collapse; font-size: 13px; }
th, td { padding: 3px 10px; text-align: right; border-bottom: 1px solid #ddd; } th { background: #f4f4f4; }
pre { background: #f6f6f6; padding: 0.8em; overflow-x: auto; font-size: 13px; }
img { max-width: 100%; } .scroll { overflow-x: auto; }
"""


def page(title: str, parts: Sequence[str]) -> str:
    """
    :param title: also the first heading
    :param parts: HTML, from top to bottom; what is empty is left out
    """
    head = f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>{escape(title)}</title>"
    view = "<meta name='viewport' content='width=device-width, initial-scale=1'>"
    style = f"{view}<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>"
    return "\n".join([head, style, *filter(None, parts), "</body></html>\n"])


def paragraph(text: str) -> str:
    """:param text: plain"""
    return f"<p>{escape(text)}</p>"


def section(title: str, body: str) -> str:
    """
    :param title: plain
    :param body: HTML
    """
    return f"<h2>{escape(title)}</h2>{body}"


def verbatim(text: str) -> str:
    """:param text: plain; lines are kept"""
    return f"<pre>{escape(text)}</pre>"


def image(name: str, png: bytes) -> str:
    """
    :param name: what it shows
    :param png: the file's content
    """
    return f"<p><img alt='{escape(name)}' src='data:image/png;base64,{base64.b64encode(png).decode()}'></p>"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """
    :param head: of the columns
    :param rows: cells, written as ``str`` does
    """
    lines = [f"<tr>{''.join(f'<th>{escape(str(cell))}</th>' for cell in head)}</tr>"]
    lines += [f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows]
    return f"<div class='scroll'><table>{''.join(lines)}</table></div>"
