"""Fill a page of HTML that needs nothing else: no script, no font, no request."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from resolute.report import formats

TEMPLATES = Path(__file__).with_name("templates")


def render(template: str, **values: Any) -> str:
    """Fill a template.

    Args:
        template: Name of a file in the folder `TEMPLATES`.
        **values: What the template names, all of it.

    Returns:
        The page. Text among the values is escaped.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "bounds": formats.bounds,
        "brief": formats.brief,
        "count": formats.count,
        "p_value": formats.p_value,
        "percent": formats.percent,
        "points": lambda number: typeset(formats.points(number)),
        "severity": formats.severity,
        "signed_bounds": lambda interval: typeset(formats.signed_bounds(interval)),
        "times": formats.times,
        "typeset": typeset,
    }
    return environment.get_template(template).render(**values)


def typeset(text: str) -> str:
    """Set minus signs, and keep signs and their numbers on one line.

    Args:
        text: Text with hyphens for minus signs.

    Returns:
        The text as it is shown.
    """
    text = re.sub(r"(?<![\w-])-(?=\d)", "\N{MINUS SIGN}", text)
    return re.sub(r"(?<=\d) (?=%)|(?<=\bp) (?=[=<] )|(?<=\bp [=<]) ", "\N{NO-BREAK SPACE}", text)
