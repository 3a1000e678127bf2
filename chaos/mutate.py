"""Sound files made unsound, by a seed: the same seed and number give the same bytes.

Belongs here: mutations of bytes, and the hostile PDFs that no mutation of a sound one would find.
Does not belong here: what is done with them (`documents.py`, `hostile_requests.py`).
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

ENCODINGS = (
    "utf-8",
    "utf-16",
    "utf-16-le",
    "utf-32-be",
    "cp1252",
    "cp1251",
    "shift_jis",
    "koi8-r",
    "iso2022_jp_2",
    "mac-roman",
)
FOREIGN = "Ünïcode – “quotes”, Привет мир, 日本語の文, emoji 😀 and ﷽; naïve café £265 ½."
NAMES = (
    *("notes.md", "a.txt", "b.markdown", "c.pdf", "noext", "d.exe", "../../etc/passwd", "e\x00.md", "\ud800.md", "f\n.md"),
    *("." * 300 + ".md", "", " ", "..", "con.md", "Zoe\u0308.md", "g.MD", "\u202egpj.md", "h" * 197 + ".md", "i.pdf.md"),
)
BOMB_BYTES = 40_000_000
"""Of one unpacked stream: twice what a document may be."""


@dataclass(frozen=True, slots=True)
class Mutant:
    number: int
    how: str
    filename: str
    data: bytes


def mutants(seeds: Sequence[tuple[str, bytes]], seed: int, count: int, pdf_share: float) -> Iterator[Mutant]:
    """So many of them; `seeds` are sound files by name. `pdf_share`: of PDFs, each of which costs a process."""
    texts = [(name, data) for name, data in seeds if not name.endswith(".pdf")]
    pdfs = [(name, data) for name, data in seeds if name.endswith(".pdf")]
    for number in range(count):
        chance = random.Random(f"{seed}/{number}")
        pdf = chance.random() < pdf_share
        name, data = chance.choice(pdfs if pdf else texts)
        how, change = chance.choice(PDF_CHANGES if pdf else TEXT_CHANGES)
        changed = change(data, chance)
        if chance.random() < 0.3:
            changed = flip_bits(changed, chance)
        if chance.random() < 0.15:
            name = chance.choice(NAMES)
        yield Mutant(number, how, name, changed)


def flip_bits(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 8, 64))):
        if changed:
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def truncate(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def cut_out(data: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(data) + 1)
    return data[:start] + data[start + chance.randrange(200) :]


def repeat(data: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(data) + 1)
    piece = data[start : start + chance.choice((1, 7, 100))]
    return data[:start] + piece * chance.choice((50, 1000)) + data[start:]


def noise(data: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(data) + 1)
    return data[:start] + chance.randbytes(chance.choice((1, 20, 500))) + data[start:]


def splice_encodings(data: bytes, chance: random.Random) -> bytes:
    """Beginning in one encoding and going on in another, as a file that two programs have appended to."""
    text = data.decode("utf-8", "ignore")
    middle = len(text) // 2
    one, other = chance.sample(ENCODINGS, 2)
    return (text[:middle] + FOREIGN).encode(one, "ignore") + (FOREIGN + text[middle:]).encode(other, "ignore")


def wrong_mark(data: bytes, chance: random.Random) -> bytes:
    """A byte order mark of an encoding that the rest is not in."""
    return (
        chance.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff", b"\x1b$B")) + data
    )


def lone_surrogates(data: bytes, chance: random.Random) -> bytes:
    text = data.decode("utf-8", "ignore")
    start = chance.randrange(len(text) + 1)
    broken = text[:start] + chr(chance.randrange(0xD800, 0xE000)) + text[start:]
    encoding = chance.choice(("utf-8", "utf-16", "utf-16-be", "utf-32"))
    return broken.encode(encoding, "surrogatepass")


def huge_line(data: bytes, chance: random.Random) -> bytes:
    unit = chance.choice(
        (b"a", b"word ", b"1", b"\xf0\x9f\x98\x80", b"> ", b"- ", b'"', b"\xcc\x81", b"[", b"*", b".", b"!? ", b"\xc2\xa0")
    )
    return data[:200] + unit * (chance.choice((2_000, 20_000)) // len(unit)) + data[200:400]


def nested(data: bytes, chance: random.Random) -> bytes:
    """YAML, lists, quotations, fences and tables, one in another and never closed."""
    depth = chance.choice((20, 150))
    forms: tuple[Callable[[int], str], ...] = (
        lambda level: f"{'  ' * level}key{level}: &a{level} [*a{level - 1}, {{\n",
        lambda level: f"{'  ' * level}- {level}. item\n",
        lambda level: f"{'>' * level} said\n",
        lambda level: f"{'`' * (3 + level % 40)}\n",
        lambda level: f"|{'a|' * level}\n|{'-|' * level}\n",
        lambda level: f"{'#' * level} heading\n",
        lambda level: "---\n" + "{" * level + "\n",
    )
    form = chance.choice(forms)
    return data[:300] + "".join(form(level) for level in range(depth)).encode() + data[300:]


def controls(data: bytes, chance: random.Random) -> bytes:
    signs = ("\x00", "\x1b[2J", "\x85", "\u2028", "\u202e", "\ufeff", "\ufffe", "\U0010ffff", "\x0c", "\r", "\x7f")
    text = data.decode("utf-8", "ignore")
    for _ in range(chance.choice((1, 3, 40))):
        start = chance.randrange(len(text) + 1)
        text = text[:start] + chance.choice(signs) + text[start:]
    return text.encode()


def nothing_but(data: bytes, chance: random.Random) -> bytes:
    return chance.choice(
        (b"", b"\n" * 50, b"\x00" * 50, b"\xff" * 50, b" \t\xc2\xa0 ", b"\xef\xbb\xbf", b"\xff\xfe", b"%PDF-", b"-")
    )


def unsound(data: bytes, chance: random.Random) -> bytes:
    return data


def swap_words(data: bytes, chance: random.Random) -> bytes:
    """Words of a PDF's structure in each other's places."""
    words = (
        b"/Length",
        b"/Filter",
        b"/Kids",
        b"/Parent",
        b"/Contents",
        b"obj",
        b"endobj",
        b"stream",
        b"xref",
        b"trailer",
        b"R",
    )
    one, other = chance.sample(words, 2)
    return data.replace(one, b"\x00mark\x00").replace(other, one).replace(b"\x00mark\x00", other)


def wrong_numbers(data: bytes, chance: random.Random) -> bytes:
    digits = [at for at, byte in enumerate(data[:20_000]) if 48 <= byte <= 57]
    changed = bytearray(data)
    for at in chance.sample(digits, min(len(digits), 40)):
        changed[at] = 48 + chance.randrange(10)
    return bytes(changed)


def stream_bomb(data: bytes, chance: random.Random) -> bytes:
    """A stream that unpacks to far more than it is, once or twice over."""
    packed = zlib.compress(b"BT /F1 12 Tf (x) Tj ET\n" * (BOMB_BYTES // 23), 9)
    filters = b"/FlateDecode"
    if chance.random() < 0.5:
        packed, filters = zlib.compress(packed, 9), b"[/FlateDecode /FlateDecode]"
    return make_pdf(b"<< /Length %d /Filter %s >>" % (len(packed), filters), packed)


def looping_tree(data: bytes, chance: random.Random) -> bytes:
    """Pages, or their contents, that lead back to themselves."""
    kids = chance.choice((b"[2 0 R]", b"[3 0 R 2 0 R]", b"[3 0 R " * 30 + b"]" * 30))
    contents = chance.choice((b"3 0 R", b"[4 0 R 4 0 R 3 0 R]", b"2 0 R", b"99 0 R", b"-1 0 R", b"null"))
    return make_pdf(b"<< /Length 4 0 R >>", b"BT (loop) Tj ET", kids, contents)


def lying_length(data: bytes, chance: random.Random) -> bytes:
    length = chance.choice((b"0", b"-5", b"99999999999999999999", b"(text)", b"<<>>", b"1.5"))
    predictor = b"/DecodeParms << /Predictor 15 /Columns 99999999 >>"
    filters = chance.choice(
        (b"/FlateDecode", b"/LZWDecode", b"/ASCII85Decode", b"/RunLengthDecode", b"/CCITTFaxDecode", b"/Nope")
    )
    return make_pdf(b"<< /Length " + length + b" /Filter " + filters + predictor + b" >>", chance.randbytes(300))


def deep_arrays(data: bytes, chance: random.Random) -> bytes:
    depth = chance.choice((500, 50_000))
    return make_pdf(b"<< /Length 20 >>", b"[" * depth + b" (x) Tj " + b"<<" * depth)


def make_pdf(stream_dictionary: bytes, stream: bytes, kids: bytes = b"[3 0 R]", contents: bytes = b"4 0 R") -> bytes:
    """One page, without a table of objects: readers then look for them one by one."""
    return b"\n".join(
        (
            b"%PDF-1.7",
            b"1 0 obj << /Type /Catalog /Pages 2 0 R >> endobj",
            b"2 0 obj << /Type /Pages /Count 1 /Kids " + kids + b" >> endobj",
            b"3 0 obj << /Type /Page /Parent 2 0 R /MediaBox [0 0 99 99] /Contents " + contents,
            b"/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >> endobj",
            b"4 0 obj " + stream_dictionary + b" stream\n" + stream + b"\nendstream endobj",
            b"trailer << /Root 1 0 R >>",
        )
    )


Change = Callable[[bytes, random.Random], bytes]


def _named(*changes: Change) -> list[tuple[str, Change]]:
    return [(change.__name__, change) for change in changes]


TEXT_CHANGES = _named(
    *(flip_bits, truncate, cut_out, repeat, noise, splice_encodings, wrong_mark, lone_surrogates),
    *(huge_line, nested, controls, nothing_but),
)
PDF_CHANGES = _named(
    *(flip_bits, truncate, cut_out, noise, swap_words, wrong_numbers, unsound),
    *(stream_bomb, looping_tree, lying_length, deep_arrays),
)
