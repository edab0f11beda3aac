"""
Draw docs/images/architecture.svg from the imports of the code: ``python scripts/architecture.py``.

Packages stand above what they import; an arrow that follows from two others is left out.
"""

from __future__ import annotations

from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import networkx

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "architecture.svg"
GROUND = ("errors", "files", "version", "moved")  # named under the picture: nearly everything imports them
WIDTH, BOX, FLOOR = 900, (118, 34), 78


def file_imports() -> dict[str, set[str]]:
    """Every module with what it imports, in functions and for type checkers as well."""
    graph = grimp.build_graph("sbbatch", cache_dir=None)
    return {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}


def package_of(module: str) -> str:
    """``sbbatch.zoo.run.train`` -> ``zoo.run``; agents and the zoo have floors inside. The faces have no package."""
    parts = module.split(".")[1:]
    if parts == ["zoo"]:
        return ""
    inner = parts[:1] == ["zoo"] or parts[:2] == ["agents", "base"]
    return ".".join(parts[:2] if inner else parts[:1])


def package_imports() -> dict[str, set[str]]:
    """Every package with those it imports, without the ground."""
    packages: dict[str, set[str]] = {}
    for module, imported in file_imports().items():
        package = package_of(module)
        if package in ("", *GROUND):
            continue
        found = {package_of(other) for other in imported} - {package, "", *GROUND}
        packages.setdefault(package, set()).update(found)
    return packages


def floors(packages: dict[str, set[str]]) -> dict[str, int]:
    """How high each package stands: one above the highest that it imports."""
    height: dict[str, int] = {}
    for package in TopologicalSorter(packages).static_order():
        height[package] = 1 + max((height[other] for other in packages.get(package, ())), default=-1)
    return height


def draw() -> str:
    """The picture as SVG."""
    packages = packages_without_detours()
    height = floors(packages)
    top = max(height.values())
    place = {}
    for level in range(top + 1):
        row = sorted(package for package in height if height[package] == level)
        for column, package in enumerate(row):
            place[package] = (WIDTH * (column + 1) / (len(row) + 1), 30 + (top - level) * FLOOR)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {80 + top * FLOOR}" font-family="sans-serif"'
        ' font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#777"/></marker></defs>',
    ]
    for package in sorted(packages):
        for other in sorted(packages[package]):
            (x1, y1), (x2, y2) = place[package], place[other]
            lines.append(
                f'<line x1="{x1:.0f}" y1="{y1 + BOX[1] / 2:.0f}" x2="{x2:.0f}" y2="{y2 - BOX[1] / 2:.0f}" '
                'stroke="#777" marker-end="url(#tip)"/>'
            )
    for package, (x, y) in sorted(place.items()):
        colour = "#fde7c8" if package.startswith("zoo") else "#d5e8f7"
        lines.append(
            f'<rect x="{x - BOX[0] / 2:.0f}" y="{y - BOX[1] / 2:.0f}" width="{BOX[0]}" height="{BOX[1]}" rx="6" '
            f'fill="{colour}" stroke="#444"/>'
            f'<text x="{x:.0f}" y="{y + 5:.0f}" text-anchor="middle">{package}</text>'
        )
    return "\n".join([*lines, "</svg>", ""])


def packages_without_detours() -> dict[str, set[str]]:
    """:func:`package_imports` without the arrows that follow from two others."""
    graph = networkx.DiGraph(package_imports())
    reduced = networkx.transitive_reduction(graph)
    return {package: set(reduced.successors(package)) for package in graph}


if __name__ == "__main__":
    PICTURE.write_text(draw())
    print(PICTURE)
