"""Which option an answer names: read by rules, never guessed."""

import re
from string import ascii_uppercase

FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
DASH = "[-\u2010-\u2014]"
TAG = re.compile(r"</?\|?[A-Za-z_]+\|?>")
"""Special tokens and tags around an answer: </s>, <|im_end|>, <answer>."""
BOXED = re.compile(r"\\boxed\{(?:\\text\{)?([^{}]*)\}+")
HEADING = r"(?i:(?:best )?option:?|(?:the )?(?:final |correct )?answer(?: is)?:?)"
INTRODUCTION = re.compile(rf"^{HEADING}\s*")
NAMING = (
    r"(?i:\b(?:answer|option|choice)(?: is)?:?|\b(?:choose|pick|select|go with)(?: option)?|"
    r"\b(?:it|that)(?:'s| is)(?: option)?|\b(?:must|would|should) be|\b(?:so|therefore|thus|hence),?)"
)
OPENED = r"[\s(\[*{\"']"
RIGHT = r"\s+is\s+(?:the\s+)?(?:right|correct|best|answer)\b"
ALONE = r"(?!\d|[A-Z](?:\.|$))"
"""What makes a full stop none: a number ("3.5"), initials ("D.C.")."""
ENDED = rf"(?=\.{ALONE}|[:;,)\]*\n}}\"]|'(?!\w)|\s*$|\s+{DASH}\s|\s+(?:because|since|as)\b|{RIGHT})"
"""What may follow a letter that is meant as one; a word may not, but for these."""
ENDED_STRICTLY = rf"(?=\.{ALONE}|[:)\]*\n}}\"]|'(?!\w)|\s*$|\s+{DASH}\s|{RIGHT})"
"""The same for a letter that is a person's name in the options."""


def parse_letter(text: str, options: list[str]) -> str | None:
    """The option letter that an answer names, or None.

    Special tokens and tags (`B</s>`, `<answer>B</answer>`) are left out, full-width signs are taken as plain ones, and
    `\\boxed{B}` as "Answer: B". Then, in this order:

    - a capital letter and nothing else, alone or behind "the answer is", also where options are letters themselves, as
      in MVBench's character_order;
    - the text of one option, alone or behind "the answer is": first with its signs as they are ("$150", "C#", "3:30",
      "10%"), then without sentence marks, with a space for a hyphen ("top left" for top-left) and but for an article
      before a word (so that "A man" is an option and not the letter A). A number keeps its point: 50 is not 5.0;
    - what is denied is left out ("not (A)", "A is wrong", "all but A"), and so are options repeated with letter and
      text, where two or more are: what follows such an echo is the answer;
    - two letters side by side ("A or C", "A, B") are no answer;
    - the one letter that is named: at the start before punctuation, a dash, a line break or "because", "is correct" and
      the like (a small one before a full stop, colon or bracket), or behind "the answer is", "option", "I choose",
      "it's", "so" with the same behind it. Different letters are no answer, nor is a letter followed by the text of
      another option ("A. 2" where 2 is option B);
    - the one letter that stands in brackets ("red (B)").

    A letter followed by another word is none: it may be the article "a", or a person, as EgoSchema calls the one who
    wears the camera C ("C picks up the knife", "C is sleeping"). Where options begin with such a person, a comma or
    "because" behind the letter does not make it an answer either. No option's text is looked for in the midst of an
    answer.
    """
    letters = ascii_uppercase[: len(options)]
    one_of = f"([{letters}])"
    spoken = BOXED.sub(r"Answer: \1", TAG.sub(" ", text.translate(FULL_WIDTH))).strip().strip("*\"' ")
    candidates = (spoken, INTRODUCTION.sub("", spoken))
    for candidate in candidates:
        if alone := re.fullmatch(rf"[(\[{{]?{one_of}[)\]}}]?[.:]?", candidate):
            return alone[1]
    for candidate in candidates:
        if (found := _option_told(candidate, options)) is not None:
            return found
    spoken = _without_denied(_without_echo(spoken, options), one_of)
    if re.search(rf"\b{one_of}[)\]]?\s*(?:,|/|\bor\b|\band\b)\s*[(\[]?{one_of}(?![\w'])", spoken):
        return None
    named = _named(spoken, options)
    if not named:
        named = set(re.findall(rf"[(\[]\s*{one_of}\s*[)\]]", spoken))
    return named.pop() if len(named) == 1 else None


def plain(text: str) -> str:
    """Lower-case words without sentence marks, a space for a hyphen at a letter; numbers keep sign, point and colon but
    no comma of thousands, and signs that mean something ($, %, #, +, /) stay."""
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text.translate(FULL_WIDTH).lower())
    text = re.sub(
        r"[.:](?!\d)|(?<=[^\W\d_])[.:]|[,;!?\"'`*()\[\]{}\u201c\u201d\u2018\u2019\u2026\u3001\u3002]", "", text
    )
    text = re.sub(rf"{DASH}(?!\d)|(?<=[^\W\d_]){DASH}", " ", text)
    return " ".join(text.split())


def _named(spoken: str, options: list[str]) -> set[str]:
    """All letters named at the start or behind a naming word, with the other option whose text follows one, if any."""
    letters, found = ascii_uppercase[: len(options)], set[str]()
    persons = [letter for letter in letters[1:] if any(re.match(rf"{letter}(?:'s)?,?\s+[a-z]", one) for one in options)]
    if small := re.match(rf"{HEADING}?{OPENED}*([{letters.lower()}])(?:[.:)\]](?!\d)|\s*$)", spoken):
        found.add(small[1].upper())
    for match in re.finditer(rf"(?:^{HEADING}?{OPENED}*|{NAMING}{OPENED}+)([{letters}])(?!\w)", spoken):
        letter, behind = match[1], spoken[match.end() :]
        told = _option_told(behind.split("\n")[0].strip(" .,:;)]*-\u2013\u2014"), options)
        if told not in (None, letter):
            return {letter, told}
        if told or re.match(ENDED_STRICTLY if letter in persons else ENDED, behind):
            found.add(letter)
    return found


def _option_told(text: str, options: list[str]) -> str | None:
    """The letter of the one option whose text this is, signs and all, else without sentence marks and an article."""
    for reading in (_as_it_is, _without_article):
        read = reading(text)
        told = [letter for letter, option in zip(ascii_uppercase, options, strict=False) if read == reading(option)]
        if read and told:
            return told[0] if len(told) == 1 else None
    return None


def _as_it_is(text: str) -> str:
    return " ".join(text.lower().strip("*\"' ").rstrip(".").split())


def _without_article(text: str) -> str:
    return plain(re.sub(r"^\s*(?:a|an|the)\s+(?=[^\W\d_])", "", text.lower()))


def _without_echo(spoken: str, options: list[str]) -> str:
    """The answer without the first repetition of each option, where two or more stand there with letter and text."""
    echoed = [
        re.search(rf"[(\[]?\b{letter}[.:)\]]+\s*{re.escape(option)}(?!\w)", spoken, re.IGNORECASE)
        for letter, option in zip(ascii_uppercase, options, strict=False)
    ]
    repeated = [match for match in echoed if match is not None]
    if len(repeated) < 2:
        return spoken
    for match in sorted(repeated, key=lambda match: -match.start()):
        spoken = f"{spoken[: match.start()]} {spoken[match.end() :]}"
    return spoken.strip(" .,;\n")


def _without_denied(spoken: str, one_of: str) -> str:
    letter = rf"(?:option |answer |choice )?[(\[]?{one_of}(?![\w'])[)\]]?"
    listed = rf"{letter}(?:\s*(?:,|/|\bor\b|\bnor\b|\band\b)\s*{letter})*"
    denying = (
        r"(?i:\b(?:not|isn't|never|neither|except|excluding|other than|rather than|instead of|(?:all|anything) but))"
    )
    spoken = re.sub(rf"{denying}\s+{listed}", " ", spoken)
    return re.sub(rf"{letter}(?i:\s+(?:is not|isn't|is wrong|is incorrect|is false|cannot|can't)\b)", " ", spoken)
