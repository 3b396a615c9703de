"""Read an answer in whatever sensible form it comes: a number, several numbers, a set, a word.

Tensors, NumPy arrays, lists, tuples, sets and text are all fine: `40`, `[40]`, `"2,560,000"`, `"16.8 %"`, `"1/168"`.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from qdm_labs.task import Mistake

_PER_CENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_NUMBER = re.compile(r"(?<![\w.^])-?\d+(?:\.\d+)?(?:e-?\d+)?(?![\w.])")
_THOUSANDS = re.compile(r"(?<=\d)[,_ \u202f](?=\d{3}(?!\d))")
_ARITHMETIC = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
               ast.Pow: operator.pow, ast.USub: operator.neg, ast.UAdd: operator.pos}  # fmt: skip
_NAMES = {"pi": math.pi, "sqrt": math.sqrt, "sin": math.sin, "cos": math.cos, "log": math.log}


def is_blank(answer: Any) -> bool:
    """Whether nothing was filled in: None, `...`, empty text, or several of these."""
    if isinstance(answer, list | tuple) and answer:
        return all(map(is_blank, answer))
    return answer is None or answer is ... or (isinstance(answer, str) and not answer.strip())


def several(answer: Any) -> list[float]:
    """All numbers of an answer, in their order; `Mistake` where something else is among them."""
    if isinstance(answer, str):
        return _from_text(answer)
    if hasattr(answer, "tolist"):  # a tensor, an array, a scalar of NumPy
        answer = answer.detach().cpu().tolist() if hasattr(answer, "detach") else answer.tolist()
    if isinstance(answer, Mapping):
        answer = list(answer.values())
    if isinstance(answer, bool) or isinstance(answer, Callable):
        kind = "True or False" if isinstance(answer, bool) else "a function; call it, or write down what comes out"
        raise Mistake(f"A number is wanted; this is {kind}.")
    if isinstance(answer, Iterable):
        return [number for part in answer for number in several(part)]
    if isinstance(answer, complex) and abs(answer.imag) < 1e-9:
        answer = answer.real
    try:
        return [float(answer)]
    except (TypeError, ValueError, ArithmeticError):
        raise Mistake(f"A number is wanted; this is {_short(answer)}.") from None


def one(answer: Any) -> float:
    """The number of an answer that holds one."""
    found = several(answer)
    if len(found) != 1:
        raise Mistake(f"One number is wanted; these are {len(found)}.")
    return found[0]


def words(answer: Any) -> list[str]:
    """The words of an answer in lower case, without quotes and full stops; True and False are yes and no."""
    if isinstance(answer, bool):
        return ["yes" if answer else "no"]
    if isinstance(answer, str):
        return re.findall(r"\w(?:[\w-]*\w)?", answer.casefold())  # a hyphen inside a word, no arrow after it
    if isinstance(answer, Iterable):
        return [word for part in answer for word in words(part)]
    raise Mistake(f"Words are wanted, in quotes; this is {_short(answer)}.")


def _from_text(text: str) -> list[float]:
    plain = text.replace("−", "-").replace("·", "*").replace("×", "*").replace("^", "**")
    plain = re.sub(r"(?<=\d) ?(π|pi\b)", "*pi", plain).replace("π", "pi").replace("√", "sqrt")
    plain = re.sub(r"\b(and|about|or)\b|[≈~;]|±|\+-", " , ", _THOUSANDS.sub("", plain)).strip(" ,")
    try:
        return _values(ast.parse(_PER_CENT.sub(r"(\1/100)", plain), mode="eval").body)
    except (SyntaxError, ValueError, ArithmeticError, KeyError, TypeError):
        pass  # numbers among words, then: "t = 496", "mean 0.3, deviation 80 %"
    share = _PER_CENT.sub(lambda found: str(float(found[1]) / 100), plain)
    if not (found := [float(number) for number in _NUMBER.findall(share)]):
        raise Mistake(f"A number is wanted; this is the text {_short(text)}.")
    return found


def _values(node: ast.AST) -> list[float]:
    """The numbers of a parsed text; KeyError or ValueError for anything but arithmetic."""
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return [value for part in node.elts for value in _values(part)]
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return [float(node.value)]
    if isinstance(node, ast.BinOp | ast.UnaryOp):
        sides = (node.left, node.right) if isinstance(node, ast.BinOp) else (node.operand,)
        return [float(_ARITHMETIC[type(node.op)](*(_values(side)[0] for side in sides)))]
    if isinstance(node, ast.Name) and node.id == "pi":
        return [math.pi]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1 and node.func.id != "pi":
        return [_NAMES[node.func.id](*_values(node.args[0]))]
    raise ValueError("no number")


def _short(thing: Any) -> str:
    return f"{str(thing)[:40]!r}" if isinstance(thing, str) else f"of type {type(thing).__name__}"
