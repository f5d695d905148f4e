"""The Brown corpus as running text again: its files hold words with their tags, one sentence a line.

A token is ``word/tag``. Quotes are written `` and '', a question, exclamation or semicolon stands twice, and
punctuation is a token of its own; a single quote both opens and closes. Source: Francis & Kučera 1979, Manual of
Information to accompany A Standard Corpus of Present-Day Edited American English.
"""

from __future__ import annotations

import re

_CLOSING = {",", ".", ";", ":", "?", "!", ")", "]", "%"}
_OPENING = {"(", "[", "$"}
_INSIDE = {",", ".", "?", "!"}  # a closing quote
_ONCE = {",", "."}  # the point of an abbreviation ends a sentence too
_TWICE = {"?", "!", ";", ":"}


def plain_text(tagged: str) -> str:
    """Sentences of ``word/tag`` as text: one a line of the file, and a blank line between paragraphs.

    A comma, a point, a question or exclamation mark behind a quote goes into it, where American print has it.

    >>> plain_text("The/at jury/nn said/vbd ,/, ``/`` No/rb (/( yet/rb )/) ''/'' ./.")
    'The jury said, "No (yet)."'
    >>> plain_text("Why/wrb ?/. ?/." + chr(10) * 2 + "It's/pps+bez Al's/np$ '/' joke/nn '/' ;/. ;/. 1\\/2/cd")
    "Why?\\nIt's Al's 'joke'; 1/2"
    """
    paragraphs = (_paragraph(block.split()) for block in re.split(r"\n\s*\n", tagged))
    return "\n".join(paragraph for paragraph in paragraphs if paragraph)


def _paragraph(tokens: list[str]) -> str:
    """The words with spaces where print has them."""
    text, previous, glued, open_quote = "", "", True, False
    for token in tokens:
        word = (token.rpartition("/")[0] or token).replace("\\/", "/")
        if word in _TWICE and word == previous:
            previous = ""
            continue
        if word in _ONCE and text.endswith(word):
            continue
        closes = word in _CLOSING or word == "''" or (word == "'" and open_quote)
        opens = word in _OPENING or word == "``" or (word == "'" and not open_quote)
        if word == "'":
            open_quote = not open_quote
        if previous == "''" and word in _INSIDE:
            text = f'{text[:-1]}{word}"'
        else:
            text += ("" if glued or closes else " ") + ('"' if word in ("``", "''") else word)
        glued, previous = opens, word
    return text
