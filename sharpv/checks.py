"""Values of settings: what is no value of its field's type is refused by name, before anything is made of it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def require_fields(instance: Any) -> None:
    """ValueError for the first field of a dataclass that holds no value of its type.

    A number must be finite, true and false are no numbers, and 1.5 is no whole number.
    """
    kinds = get_type_hints(type(instance))
    for field in dataclasses.fields(instance):
        if not field.init:
            continue
        value, kind = getattr(instance, field.name), kinds[field.name]
        if not holds(value, kind):
            if get_origin(kind) is Literal:
                raise ValueError(f"{field.name}={value!r} is not one of {get_args(kind)}")
            raise ValueError(f"{field.name}={value!r} must be {_said(kind)}")


def holds(value: Any, kind: Any) -> bool:
    """Whether a value is one of an annotation's type; unknown annotations hold everything."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(holds(value, part) for part in parts)
    if origin is Literal:
        return value in parts
    if origin in (list, tuple):
        listed = isinstance(value, Sequence) and not isinstance(value, str)
        return listed and all(holds(one, parts[0]) for one in value)
    if origin is dict:
        return isinstance(value, Mapping) and all(holds(one, parts[1]) for one in value.values())
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return not isinstance(kind, type) or isinstance(value, kind)


def _said(kind: Any) -> str:
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(_said(part) for part in parts)
    if origin in (list, tuple):
        return f"a list, each of it {_said(parts[0])}"
    if origin is dict:
        return f"a mapping, each value {_said(parts[1])}"
    names = {float: "a finite number", int: "a whole number", str: "text", bool: "true or false", NoneType: "null"}
    return names.get(kind, getattr(kind, "__name__", str(kind)))
