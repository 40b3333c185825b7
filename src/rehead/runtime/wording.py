"""Write numbers, and what others have written, into the lines that a person reads."""

import unicodedata

# Categories of Unicode that a terminal acts on instead of showing them: control characters, directions of writing and
# other formats, line and paragraph separators, halves of a character.
_UNSHOWN = ("Cc", "Cf", "Zl", "Zp", "Cs")
# Of those, what joins and separates letters and emoji in ordinary texts.
_HARMLESS = "\u200c\u200d\u00ad"
# What a spreadsheet takes for the beginning of a formula. Source: OWASP, "CSV injection".
_BEGIN_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def counted(n: int, noun: str) -> str:
    """Return a number with its noun: "1 row", "1,200 rows"."""
    return f"{n:,} {noun if n == 1 else f'{noun}s'}"


def percent(share: float) -> str:
    """Return a share of 1 in per cent: "99.34 %"."""
    return f"{100 * share:.2f} %"


def escaped(text: str, keep: str = "") -> str:
    r"""Return the text with each character that a terminal would act on as Python writes it, such as \x1b.

    Args:
        keep: characters that stay as they are, such as a line feed.
    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character in keep or character in _HARMLESS or unicodedata.category(character) not in _UNSHOWN
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def no_formula(cell: str) -> str:
    """Return a cell for a spreadsheet: with an apostrophe before what begins as a formula does, and is no number."""
    if not cell.lstrip(" ").startswith(_BEGIN_FORMULAS):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell
