"""Reading text the user wrote: strict YAML, and Python literals inside strings. Nothing is ever executed.

The zoo's YAML files hold plain values, a few tags (``!!float 1e5``) and strings such as
``"dict(net_arch=[64, 64], activation_fn=nn.ReLU)"``. Everything they need is read here without ``eval`` and without
YAML tags that build Python objects; whatever else is met is refused in one sentence with its line and column.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from torch import nn

import sbbatch
from sbbatch.errors import InvalidType, InvalidValue, UserError

# The longest file of rl-baselines3-zoo has 15 kB; PyYAML needs about 3 s for 256 kB.
MAX_YAML_BYTES = 256 * 1024
# Values after aliases and merges are written out: what an "anchor bomb" blows up.
MAX_YAML_VALUES = 20_000
MAX_LITERAL_CHARACTERS = 4096

ACTIVATIONS: dict[str, type[nn.Module]] = {
    f"nn.{module.__name__}": module for module in (nn.ReLU, nn.Tanh, nn.GELU, nn.ELU, nn.LeakyReLU)
}


class _StrictLoader(yaml.SafeLoader):
    """
    YAML's safe subset without bytes, sets and dates, and with numbers read as in YAML 1.2.

    ``<<`` is merged here, because PyYAML 6.0.4 lets the wrong value win (yaml/pyyaml issue 953).
    """

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """
        Replace ``<<`` by the entries it brings in: a mapping's own key wins, then the earlier of two merged mappings.

        :raises yaml.constructor.ConstructorError: ``<<`` is given something else than a mapping or a list of mappings
        """
        merged = [value for key, value in node.value if key.tag == _MERGE_TAG]
        own = [(key, value) for key, value in node.value if key.tag != _MERGE_TAG]
        for key, _ in own:
            if key.tag == "tag:yaml.org,2002:value":  # a plain `=`
                key.tag = "tag:yaml.org,2002:str"
        sources = [source for value in merged for source in _sources(value)]
        taken = {_identity(key) for key, _ in own}
        inherited = []
        for source in sources:
            if not isinstance(source, yaml.MappingNode):
                kind = "sequence" if isinstance(source, yaml.SequenceNode) else "scalar"
                problem = f"`<<` expects a mapping or a list of mappings, got a {kind}"
                raise yaml.constructor.ConstructorError(None, None, problem, source.start_mark)
            self.flatten_mapping(source)
            fresh = [(key, value) for key, value in source.value if _identity(key) not in taken]
            taken |= {_identity(key) for key, _ in fresh}
            inherited += fresh
        node.value = inherited + own


_MERGE_TAG = "tag:yaml.org,2002:merge"


def _sources(node: yaml.Node) -> list[yaml.Node]:
    return node.value if isinstance(node, yaml.SequenceNode) else [node]


def _identity(key: yaml.Node) -> Any:
    return (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """YAML 1.1's plain-scalar rules, except that `1e-4` is a float, `1:30` is not 90 and dates stay text."""
    replaced = {"int", "float", "timestamp"}
    return {
        first: [(tag, pattern) for tag, pattern in rules if tag.rsplit(":", 1)[-1] not in replaced]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_StrictLoader.yaml_implicit_resolvers = _resolvers()
_StrictLoader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rsplit(":", 1)[-1] not in {"binary", "omap", "pairs", "set", "timestamp"}
}
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+)$"), list("-+0123456789")
)
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"""^(?:[-+]?(?:[0-9][0-9_]*\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?
        |[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+
        |[-+]?\.(?:inf|Inf|INF)
        |\.(?:nan|NaN|NAN))$""",
        re.VERBOSE,
    ),
    list("-+0123456789."),
)


def hyperparams_folder() -> Path:
    """The packaged hyperparameter files: inside the package in a wheel, beside it in the repository."""
    package = Path(sbbatch.__file__).parent
    inside = package / "hyperparams"
    return inside if inside.is_dir() else package.parent / "hyperparams"


def read_yaml(path: Path, shown: str | None = None) -> dict[str, Any]:
    """
    Read one YAML file whose top level is a mapping with names as keys.

    :param path: the file
    :param shown: the file's name in messages
    :return: plain Python values
    :raises UserError: the file is missing, too large, not YAML, or holds more than plain values
    """
    shown = shown or str(path)
    content = parse_yaml(_read_text(path, shown), shown)
    if content is None:
        raise InvalidValue(f"{shown} is empty; expected a mapping from names to values")
    if not isinstance(content, dict):
        raise InvalidType(f"{shown}: got a {type(content).__name__} at the top level, expected a mapping with names")
    for key in content:
        if not isinstance(key, str):
            raise InvalidType(f"{shown}: got {type(key).__name__} {key!r} as a key, expected a name")
    return content


def parse_yaml(text: str, shown: str) -> Any:
    """
    Read YAML text into plain values.

    :param text: the document
    :param shown: where it comes from, for messages
    :raises UserError: not YAML, several documents, Python tags, duplicate keys or an anchor bomb
    """
    try:
        loader = _StrictLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check_nodes(node, shown)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except UserError:
        raise
    except yaml.MarkedYAMLError as error:
        raise InvalidValue(_yaml_sentence(error, text, shown)) from None
    except yaml.YAMLError as error:
        raise InvalidValue(f"{shown}: not readable as YAML ({' '.join(str(error).split())})") from None
    except RecursionError:
        raise InvalidValue(f"{shown}: values are nested too deeply") from None
    except (KeyError, IndexError):  # PyYAML's answer to `!!bool maybe` and `!!int ""`
        raise InvalidValue(
            f"{shown}: a value does not fit its tag (!!bool, !!int, !!float); write plain values"
        ) from None
    except (ValueError, OverflowError) as error:  # e.g. a number of more than 4300 digits
        raise InvalidValue(f"{shown}: a value cannot be read ({error})") from None


def read_literal(text: str, where: str) -> Any:
    """
    Read a Python literal, with ``dict(...)`` and the activations ``nn.ReLU, nn.Tanh, ...`` as only names.

    :param text: e.g. ``"dict(net_arch=[64, 64], activation_fn=nn.ReLU)"``
    :param where: what is being read, for messages
    :raises UserError: anything that is not such a literal
    """
    return _read(text, where, _literal)


def _read(text: str, where: str, translate: Callable[[ast.expr, str], Any]) -> Any:
    """Text as Python would parse it, translated without running anything."""
    if len(text) > MAX_LITERAL_CHARACTERS:
        raise InvalidValue(f"{where}: {len(text)} characters are too many, expected at most {MAX_LITERAL_CHARACTERS}")
    try:
        return translate(ast.parse(text.strip(), mode="eval").body, where)
    except SyntaxError as error:
        column = f" at character {error.offset}" if error.offset else ""
        raise InvalidValue(f"{where}: cannot read {_short(text)}{column} ({error.msg})") from None
    except (RecursionError, MemoryError):
        raise InvalidValue(f"{where}: values are nested too deeply") from None
    except UserError:
        raise
    except (ValueError, TypeError) as error:  # null characters, huge numbers, unhashable dictionary keys
        raise InvalidValue(f"{where}: cannot read {_short(text)} ({error})") from None


def read_call(text: str, where: str) -> tuple[str, list[Any], dict[str, Any]]:
    """
    Read a name with or without arguments; nothing is called.

    :param text: e.g. ``"double"``, ``"munchausen(alpha=0.9)"`` or ``"abs(8, 64)"``
    :param where: what is being read, for messages
    :return: the name, its positional and its keyword arguments
    :raises UserError: anything else
    """
    name, bracket, _ = text.strip().partition("(")
    if not bracket:
        return name, [], {}
    try:
        return name, *_read(text, where, _arguments)
    except UserError:
        raise InvalidValue(f"{where}: cannot read {_short(text)}, expected e.g. {name}(name=value)") from None


def _arguments(node: ast.expr, where: str) -> tuple[list[Any], dict[str, Any]]:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        raise InvalidValue(f"{where}: expected a name with arguments")
    named = [ast.keyword(one.arg, _word(one.value)) for one in node.keywords]
    values = [_literal(_word(argument), where) for argument in node.args]
    return values, _named(ast.Call(ast.Name("dict"), [], named), where)


def _word(node: ast.expr) -> ast.expr:
    """``kind=linear`` is ``kind='linear'``: there is nothing else that it could mean."""
    return ast.Constant(node.id) if isinstance(node, ast.Name) else node


def read_command_line_value(text: str, key: str) -> Any:
    """
    Read the value of ``-params key:value``: a Python literal, else a YAML scalar or list, else the text itself.

    :param text: what follows the colon
    :param key: the key, for messages
    """
    try:
        return read_literal(text, key)
    except UserError:
        if text.lstrip().startswith(("dict(", "{", "[", "(")):
            raise
        if re.fullmatch(r"\w+\(.*\)", text.strip(), flags=re.DOTALL):  # a call, whose colons are its own
            return text
    try:
        return parse_yaml(text, key)
    except UserError:
        return text


def _read_text(path: Path, shown: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_YAML_BYTES + 1)
    except FileNotFoundError:
        raise InvalidValue(f"no such file: {shown}") from None
    except OSError as error:
        raise InvalidValue(f"{shown} cannot be read: {error.strerror}") from None
    if len(data) > MAX_YAML_BYTES:
        raise InvalidValue(f"{shown}: larger than {MAX_YAML_BYTES // 1024} kB, which no hyperparameter file needs")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidValue(f"{shown}: byte {error.start} is not UTF-8 text") from None


def _check_nodes(root: yaml.Node, shown: str) -> None:
    """
    Refuse duplicate keys, and count the values with aliases written out, before anything is built from them.

    Keys that come in through ``<<`` may be overridden; they are not yet merged here, so they are no duplicates.
    """
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node) -> int:
        if id(node) in sizes:
            return sizes[id(node)]
        if id(node) in open_nodes:
            raise InvalidValue(f"{shown}:{node.start_mark.line + 1}: an alias contains itself")
        open_nodes.add(id(node))
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            _check_keys(node, shown)
            children = [child for pair in node.value for child in pair]
        sizes[id(node)] = 1 + sum(size(child) for child in children)
        open_nodes.discard(id(node))
        return sizes[id(node)]

    if size(root) > MAX_YAML_VALUES:
        raise InvalidValue(f"{shown}: more than {MAX_YAML_VALUES} values once its aliases are written out")


def _check_keys(node: yaml.MappingNode, shown: str) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            line = key.start_mark.line + 1
            if key.value in lines:
                raise InvalidValue(f"{shown}: duplicate key {key.value} at lines {lines[key.value]} and {line}")
            lines[key.value] = line


def _yaml_sentence(error: yaml.MarkedYAMLError, text: str, shown: str) -> str:
    mark = error.problem_mark or error.context_mark
    at = f"{shown}:{mark.line + 1}:{mark.column + 1}" if mark else shown
    problem = error.problem or "not readable as YAML"
    if "could not determine a constructor" in problem:
        tag = problem.rsplit(" ", 1)[-1].replace("tag:yaml.org,2002:", "!!")
        return f"{at}: tag {tag} is not allowed; write plain values"
    line = text.split("\n")[mark.line] if mark and mark.line < text.count("\n") + 1 else ""
    if "\\t" in problem or line.lstrip(" ").startswith("\t"):
        return f"{at}: tab used for indentation; use spaces"
    return f"{at}: not readable as YAML ({problem})"


def _literal(node: ast.expr, where: str) -> Any:
    """One node of the literal language; the branches are the whole language."""
    if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, (bool, int, float, str))):
        return node.value
    if isinstance(node, (ast.List, ast.Tuple)):
        values = [_literal(element, where) for element in node.elts]
        return values if isinstance(node, ast.List) else tuple(values)
    if isinstance(node, ast.Dict) and None not in node.keys:
        keys = [_literal(key, where) for key in node.keys if key is not None]
        return dict(zip(keys, (_literal(value, where) for value in node.values), strict=True))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = _literal(node.operand, where)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return -value if isinstance(node.op, ast.USub) else value
    return _named(node, where)


def _named(node: ast.expr, where: str) -> Any:
    """``dict(...)`` and the activations."""
    name = ast.unparse(node.func) if isinstance(node, ast.Call) else ast.unparse(node)
    if isinstance(node, ast.Call) and name == "dict" and not node.args and all(k.arg for k in node.keywords):
        if len({keyword.arg for keyword in node.keywords}) < len(node.keywords):
            raise InvalidValue(f"{where}: a name is given twice in {_short(ast.unparse(node))}")
        return {str(keyword.arg): _literal(keyword.value, where) for keyword in node.keywords}
    if isinstance(node, ast.Attribute) and name in ACTIVATIONS:
        return ACTIVATIONS[name]
    known = ", ".join(ACTIVATIONS)
    raise InvalidValue(f"{where}: {_short(name)} is not allowed; known: numbers, text, lists, dict(...), {known}")


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
