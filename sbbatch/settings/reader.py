"""
Reading text the user wrote: YAML, and Python literals inside strings such as ``"dict(net_arch=[64],
activation_fn=nn.ReLU)"``. Nothing is ever executed.
"""

from __future__ import annotations

import ast
import math
import re
from itertools import accumulate
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode
from torch import nn

import sbbatch
from sbbatch.errors import InvalidType, InvalidValue, UserError, describe

MAX_YAML_BYTES = 256 * 1024  # the longest file of rl-baselines3-zoo has 15 kB
MAX_YAML_VALUES = 20_000  # after aliases and merges are written out: what an "anchor bomb" blows up
MAX_YAML_NESTING = 500  # brackets; ruamel.yaml needs time in the square of it
MAX_LITERAL_CHARACTERS = 4096

ACTIVATIONS: dict[str, type[nn.Module]] = {
    f"nn.{module.__name__}": module for module in (nn.ReLU, nn.Tanh, nn.GELU, nn.ELU, nn.LeakyReLU)
}
_YES_NO = re.compile("^(?:yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF)$")


def hyperparams_folder() -> Path:
    """The packaged hyperparameter files: inside the package in a wheel, beside it in the repository."""
    package = Path(sbbatch.__file__).parent
    inside = package / "hyperparams"
    return inside if inside.is_dir() else package.parent / "hyperparams"


def read_yaml(path: Path, shown: str | None = None) -> dict[str, Any]:
    """Plain values from a YAML file that is a mapping with names as keys; messages call it ``shown``."""
    shown = shown or str(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_YAML_BYTES + 1)
        text = data.decode("utf-8-sig")
    except FileNotFoundError:
        raise InvalidValue(f"no such file: {shown}") from None
    except OSError as error:
        raise InvalidValue(f"{shown} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InvalidValue(f"{shown}: byte {error.start} is not UTF-8 text") from None
    if len(data) > MAX_YAML_BYTES:
        raise InvalidValue(f"{shown}: larger than {MAX_YAML_BYTES // 1024} kB, which no hyperparameter file needs")
    content = parse_yaml(text, shown)
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InvalidType(f"{shown}: got {describe(content)}, expected a mapping from names to values")
    return content


def parse_yaml(text: str, shown: str) -> Any:
    """Plain values from the text of one YAML document; ``shown`` is where it comes from, for messages."""
    reader = _yaml()
    try:
        if max(accumulate((char in "[{") - (char in "]}") for char in text), default=0) > MAX_YAML_NESTING:
            raise RecursionError
        node = reader.compose(text)
        if node is None:
            return None
        if _n_values(node, {}) > MAX_YAML_VALUES:
            raise InvalidValue(f"{shown}: more than {MAX_YAML_VALUES} values once its aliases are written out")
        return reader.constructor.construct_document(node)
    except MarkedYAMLError as error:
        mark, problem = error.problem_mark, " ".join(f"{error.context or ''} {error.problem}".split())
        raise InvalidValue(f"{shown}:{mark.line + 1}:{mark.column + 1}: not readable as YAML ({problem})") from None
    except RecursionError:
        raise InvalidValue(f"{shown}: values are nested too deeply") from None
    except UserError:
        raise
    except (YAMLError, LookupError, ValueError) as error:  # e.g. `!!bool maybe`, or a number of 5000 digits
        raise InvalidValue(f"{shown}: a value cannot be read ({' '.join(str(error).split())})") from None


def _yaml() -> YAML:
    """YAML 1.2, in which ``1e-4`` is a number; but ``yes`` and ``no`` are booleans, as in 1.1, and dates are text."""
    reader = YAML(typ="safe", pure=True)
    rules = reader.resolver.versioned_resolver
    for first, found in rules.items():
        rules[first] = [(tag, pattern) for tag, pattern in found if not tag.endswith(":timestamp")]
    reader.resolver.add_version_implicit_resolver((1, 2), "tag:yaml.org,2002:bool", _YES_NO, list("yYnNoO"))
    return reader


def _n_values(node: Node, known: dict[int, float]) -> float:
    """Values with aliases written out, before anything is built from them; infinite if a node contains itself."""
    if id(node) not in known:
        known[id(node)] = math.inf
        children = node.value if isinstance(node, (SequenceNode, MappingNode)) else []
        parts = [part for child in children for part in (child if isinstance(child, tuple) else (child,))]
        known[id(node)] = 1 + sum(_n_values(part, known) for part in parts)
    return known[id(node)]


def read_literal(text: str, where: str) -> Any:
    """Read a Python literal, with ``dict(...)`` and the activations ``nn.ReLU, nn.Tanh, ...`` as only names."""
    return _evaluate(text, where, _Literals())


def read_call(text: str, where: str) -> tuple[str, list[Any], dict[str, Any]]:
    """Read ``"double"`` or ``"abs(8, max_size=64)"``: the name, its positional and its keyword arguments."""
    name, bracket, _ = text.strip().partition("(")
    if not bracket:
        return name, [], {}
    return name, *_evaluate(text, where, _Arguments())


def read_command_line_value(text: str, key: str) -> Any:
    """Read the value of ``-params key:value``: a Python literal, else a YAML scalar or list, else the text itself."""
    try:
        return read_literal(text, key)
    except UserError:
        if text.lstrip().startswith(("dict(", "{", "[", "(")):
            raise
        if text.rstrip().endswith(")"):  # a call, whose colons are its own
            return text
    try:
        return parse_yaml(text, key)
    except UserError:
        return text


class _Literals(ast.NodeTransformer):
    """Turns ``dict(...)`` and activations into what :func:`ast.literal_eval` reads."""

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if ast.unparse(node.func) != "dict" or node.args:
            raise ValueError(f"{_short(ast.unparse(node))} is not allowed")
        return self._dictionary(node.keywords)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        name = ast.unparse(node)
        if name not in ACTIVATIONS:
            raise ValueError(f"{_short(name)} is not allowed; known: {', '.join(ACTIVATIONS)}")
        return ast.Constant(ACTIVATIONS[name])  # type: ignore[arg-type]  # a value that needs no reading

    def _dictionary(self, keywords: list[ast.keyword]) -> ast.Dict:
        names = [str(keyword.arg) for keyword in keywords if keyword.arg is not None]
        if len(set(names)) < len(keywords):
            raise ValueError("a name is missing or given twice")
        return ast.Dict([ast.Constant(name) for name in names], [self.visit(keyword.value) for keyword in keywords])


class _Arguments(_Literals):
    """Turns a call into a pair: the list of its positional arguments and the dictionary of its keyword arguments."""

    def visit_Expression(self, node: ast.Expression) -> ast.Expression:
        call = node.body
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
            raise ValueError("expected e.g. name(argument=value)")
        values: list[ast.expr] = [self.visit(value) for value in call.args]
        return ast.Expression(ast.Tuple([ast.List(values), self._dictionary(call.keywords)]))

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """``kind=linear`` is ``kind='linear'``: there is nothing else that it could mean."""
        return ast.Constant(node.id)


def _evaluate(text: str, where: str, transformer: ast.NodeTransformer) -> Any:
    if len(text) > MAX_LITERAL_CHARACTERS:
        raise InvalidValue(f"{where}: {len(text)} characters are too many, expected at most {MAX_LITERAL_CHARACTERS}")
    try:
        return ast.literal_eval(transformer.visit(ast.parse(text.strip(), mode="eval")))
    except SyntaxError as error:
        raise InvalidValue(f"{where}: cannot read {_short(text)} ({error.msg})") from None
    except (RecursionError, MemoryError):
        raise InvalidValue(f"{where}: values are nested too deeply") from None
    except (ValueError, TypeError) as error:  # no literal, null characters, huge numbers, unhashable dictionary keys
        reason = "no plain value" if "malformed node" in str(error) else error
        raise InvalidValue(f"{where}: cannot read {_short(text)} ({reason})") from None


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
