"""Parsing of plain data into frozen specifications, with errors that name key and value."""

import difflib
from collections.abc import Mapping, Sequence
from reprlib import Repr
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from sweep.errors import SpecError
from sweep.schema.labels import fault_of_label

Positive = Annotated[float, Field(ge=1e-30, le=1e300, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=1, le=1e30, allow_inf_nan=False)]
"""A rate or size of hardware in SI units, within bounds that leave times finite in float32."""
Power = Annotated[float, Field(ge=1e-6, le=1e9, allow_inf_nan=False)]
"""A rated power. [W]"""
Delay = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
"""A latency. [s]"""
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _as_label(name: str) -> str:
    fault = fault_of_label(name)
    if fault:
        raise ValueError(f"{fault}; results have it as a label")
    return name


Name = Annotated[str, Field(min_length=1), AfterValidator(_as_label)]
"""A name that can be a label of a result."""
LONGEST_NAME = 200
"""Longest name that is compared with others. [character]"""


class Spec(BaseModel):
    """Base of every specification: frozen, strictly typed, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


S = TypeVar("S", bound=BaseModel)


def parse(kind: type[S], data: object, where: str) -> S:
    """Check `data` against `kind`.

    Raises:
        SpecError: With the file, the key and what is allowed, in one line.
    """
    if not isinstance(data, Mapping):
        raise SpecError(f"{where}: must be a mapping of keys, not {short(data)}")
    try:
        return kind.model_validate(dict(data))
    except ValidationError as error:
        raise SpecError(f"{where}: {explain(kind, error)}") from None
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from None


def explain(kind: type[BaseModel], error: ValidationError) -> str:
    """The first of the problems pydantic found, in one line, and how many more there are.

    Unknown keys come first: where one is misspelt, another is missing only for that. That a mapping
    is no name comes last.
    """
    problems = error.errors(include_url=False)
    problems.sort(key=lambda problem: problem["type"] != "extra_forbidden")
    problems.sort(
        key=lambda problem: isinstance(problem["input"], Mapping) and "str" in problem["loc"]
    )
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return _explain(kind, problems[0]) + more


def nearest(name: str, known: list[str]) -> str:
    """A guess at what a misspelt `name` meant, as the end of a sentence, or nothing."""
    if "," in name:
        return joined_names(name)
    # The time to compare grows with the third power of the length where one sign is repeated.
    close = difflib.get_close_matches(name, known, n=1) if len(name) <= LONGEST_NAME else []
    return f"; did you mean {close[0]!r}?" if close else ""


def joined_names(name: str) -> str:
    """Advice on names joined by commas, as the end of a sentence; empty without a comma."""
    names = [each.strip() for each in name.split(",")]
    return f"; give each name as a text of its own: {short(names)}" if len(names) > 1 else ""


class _Short(Repr):
    """Text of a value for a message, without writing out what is long, deep or huge."""

    def repr_int(self, x: int, level: int) -> str:
        """An integer; Python refuses to write those of more than some thousand digits."""
        del level
        return repr(x) if abs(x) < 10**40 else f"an integer of {x.bit_length()} bits"


_SHORT = _Short()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 4, 80, 80


def short(value: object) -> str:
    """Text of a value for a message, of at most 60 characters."""
    return cut(_SHORT.repr(value))


def cut(text: str) -> str:
    """The text, or its first 57 characters and an ellipsis."""
    return text if len(text) <= 60 else text[:57] + "..."


def _explain(kind: type[BaseModel], problem: Any) -> str:
    # Of a choice between types, pydantic names the validator too.
    parts = [str(part) for part in problem["loc"] if "[" not in str(part)]
    key = ".".join(parts) or "file"
    if problem["type"] == "extra_forbidden":
        known = [f.alias or n for n, f in _innermost(kind, parts).model_fields.items()]
        hint = nearest(str(problem["loc"][-1]), known)
        return f"{key}: unknown key{hint or '; allowed: ' + ', '.join(known)}"
    if problem["type"] == "missing":
        return f"{key}: missing"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    given = problem.get("input")
    if isinstance(given, str) and _looks_like_number(given):
        message += (
            f" (YAML reads {cut(given)} as text; write a decimal point and a signed exponent)"
        )
    said = "" if message.endswith(" is not") else f", not {short(given)}"
    return f"{key}: {message[:1].lower()}{message[1:]}{said}"


def _innermost(kind: type[BaseModel], parts: Sequence[str]) -> type[BaseModel]:
    """The specification within `kind` that the last key of `parts` is in."""
    for part in parts[:-1]:
        field = kind.model_fields.get(part)
        kind = (field and _specification(field.annotation)) or kind
    return kind


def _specification(annotation: Any) -> type[BaseModel] | None:
    """The first specification that a type names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_specification, get_args(annotation))), None)


def _looks_like_number(text: str) -> bool:
    # A fraction would be computed exactly, which takes for ever with an exponent of many digits.
    try:
        float(text)
    except ValueError:
        return False
    return any(character.isdigit() for character in text)
