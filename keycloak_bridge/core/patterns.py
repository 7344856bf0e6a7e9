"""Regular expressions of ECMA 262, as JSON Schema has them, run by Python."""

import re
from functools import lru_cache

_PART = re.compile(r"\\.|\(\?<(?![=!])|[\[\]$.]", re.DOTALL)
_SPACES = r"\s\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
_OUTSIDE_CLASS = {
    "$": r"\Z",  # Python's own $ also matches before a line feed at the end
    ".": r"[^\n\r\u2028\u2029]",
    "(?<": "(?P<",
    r"\s": f"[{_SPACES}]",
    r"\S": f"[^{_SPACES}]",
}
_INSIDE_CLASS = {"[": r"\[", r"\s": _SPACES}


@lru_cache(maxsize=1024)
def compile_pattern(pattern: str) -> re.Pattern[str]:
    r"""Return `pattern` compiled so that it matches what ECMA 262 says: `$` only at the very end, `\d` only 0 to 9.

    Raises re.error for what Python cannot express, such as `\p{L}`.
    """
    translated: list[str] = []
    in_class = False
    position = 0
    for match in _PART.finditer(pattern):
        part = match[0]
        translated.append(pattern[position : match.start()])
        translated.append((_INSIDE_CLASS if in_class else _OUTSIDE_CLASS).get(part, part))
        position = match.end()
        in_class = part != "]" and (in_class or part == "[")
    translated.append(pattern[position:])
    return re.compile("".join(translated), re.ASCII)
