"""What a page would load from another host, found by other means than those by which smnb leaves it out."""

from __future__ import annotations

import re

#: Attributes and CSS through which a page loads something; a link to click (``<a href>``) does not.
LOADING = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed|input)\b[^>]*?\s(?:src|srcset)\s*=\s*["']?\s*((?:https?:)?//[^"'\s>]+)
    |<link\b[^>]*?\shref\s*=\s*["']?\s*((?:https?:)?//[^"'\s>]+)
    |@import\s+(?:url\()?\s*["']?((?:https?:)?//[^"')\s;]+)
    |url\(\s*["']?((?:https?:)?//[^"')\s]+)""",
    re.IGNORECASE | re.VERBOSE,
)
# figures of panel and bokeh ask for style sheets by address in their JSON; bokeh's loader for scripts in js_urls
STYLE_SHEET = re.compile(r'("name":"ImportedStyleSheet","id":"[^"]*","attributes":\{"url":")(https?://[^"]*)')
LOADER = re.compile(r"""(\b(?:js_urls|js_modules|css_urls)\s*=\s*\[)\s*["'](https?://[^"']+)[^\]]*""")
INLINE_SCRIPT = re.compile(r"(<script\b[^>]*>)(.*?)(</script\s*>)", re.IGNORECASE | re.DOTALL)


def external_resources(page: str) -> list[str]:
    """Addresses from which an HTML page would load something: tags, style rules, and how bokeh and panel load theirs."""
    markup = INLINE_SCRIPT.sub(r"\1\3", page)
    found = [next(filter(None, match.groups())) for match in LOADING.finditer(markup)]
    for script in INLINE_SCRIPT.finditer(page):
        found += [match.group(2) for match in STYLE_SHEET.finditer(script.group(2))]
        found += [match.group(2) for match in LOADER.finditer(script.group(2))]
    return found
