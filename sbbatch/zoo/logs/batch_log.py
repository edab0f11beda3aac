"""
``batch_size.csv``: how the batch size of a replay agent, or the rollout length of a rollout agent, changed; one row per
measurement. The name is the same for both, so that files of earlier versions can be read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from sbbatch.errors import InvalidValue

# Each callback measures some of those between the first and the last; the first row has the starting size only.
COLUMNS = ("timesteps", "divergence", "divergence_mean", "target", "noise_scale", "size")

Row = dict[str, float]


def read_batch_log(path: Path) -> list[Row]:
    """The rows of a file, what was left out being NaN; ``InvalidValue`` if it is damaged or another file."""
    header, *lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True) or [""]
    if tuple(header.strip().split(",")) != COLUMNS:
        raise InvalidValue(f"{path}: got the columns '{header.strip()[:80]}', expected '{','.join(COLUMNS)}'")
    if lines and not lines[-1].endswith("\n"):
        lines.pop()  # half-written: the run is going on, or was killed
    rows: list[Row] = []
    for number, line in enumerate(lines, 2):
        try:
            fields = zip(COLUMNS, line.rstrip("\n").split(","), strict=True)
            row = {name: float(text or "nan") for name, text in fields}
        except ValueError:
            row = dict.fromkeys(COLUMNS, math.inf)
        in_order = row["timesteps"] >= (rows[-1]["timesteps"] if rows else 0)  # NaN is not
        if not (in_order and row["size"] >= 1) or any(value < 0 or math.isinf(value) for value in row.values()):
            raise InvalidValue(f"{path}: damaged in line {number}")
        rows.append(row)
    return rows


def lines_of(rows: Iterable[Mapping[str, float | None]]) -> str:
    """Rows as they stand in the file: counts without a point, and nothing for what is not known."""
    return "".join(",".join(_field(row.get(name)) for name in COLUMNS) + "\n" for row in rows)


def _field(value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    return str(int(value)) if float(value).is_integer() else repr(float(value))
