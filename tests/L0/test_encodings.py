"""Encodings: what people's files are in is told right, kept on record, and never costs a chunk its exact bytes."""

from __future__ import annotations

import codecs
from itertools import pairwise

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.errors import IngestionError
from lpm_kernel.L0.chunk import chunk_document
from lpm_kernel.L0.encodings import LEGACY, decode_text
from lpm_kernel.L0.read import read_document
from lpm_kernel.records import sha256_hex
from lpm_kernel.settings import ChunkingSettings
from tests.samples import make_document

LETTERS = {
    "German": (
        "Liebe Oma, gestern haben wir im Garten große Äpfel gepflückt. Müde, aber glücklich.",
        ["cp1252", "iso8859-15", "cp850"],
    ),
    "French": (
        "Chère Élodie, il a plu toute la journée, alors nous sommes restés à l'hôtel.",
        ["cp1252", "iso8859-15", "cp850", "mac-roman"],
    ),
    "Spanish": ("Querida Begoña: mañana iremos al río con los niños. ¿Vendrás también?", ["cp1252", "iso8859-15"]),
    "Portuguese": ("Não há coração que não se alegre com a manhã de verão em Lisboa.", ["cp1252", "iso8859-15"]),
    "Danish": ("Kære Søren, vi så en rød båd på åen i går, og æblerne er modne.", ["cp1252", "iso8859-15"]),
    "Polish": ("Wczoraj poszliśmy na długi spacer, a później piliśmy gorącą herbatę z miodem.", ["cp1250", "iso8859-2"]),
    "Czech": ("Dnes ráno jsem viděl z okna krásného žlutého ptáčka, který zpíval v zahradě.", ["cp1250", "iso8859-2"]),
    "Hungarian": ("Ma reggel hosszú sétát tettünk az erdőben, és gyönyörű őzeket láttunk a fűben.", ["cp1250", "iso8859-2"]),
    "Turkish": ("Dün akşam arkadaşlarımla güzel bir yemek yedik, sonra sahilde yürüdük.", ["cp1254", "iso8859-9"]),
    "Lithuanian": ("Vakar važiavome prie jūros, žvejojome ir valgėme šviežią žuvį.", ["cp1257", "iso8859-13"]),
    "Russian": ("Вчера вечером мы гуляли по набережной и смотрели на корабли.", ["cp1251", "koi8-r", "cp866", "iso8859-5"]),
    "Ukrainian": ("Сьогодні вранці ми ходили на ринок і купили свіжі яблука.", ["cp1251", "koi8-u"]),
    "Greek": ("Το πρωί ήπιαμε καφέ στην αυλή και μετά πήγαμε μια μεγάλη βόλτα.", ["cp1253", "iso8859-7"]),
    "Hebrew": ("אתמול בערב ישבנו בגינה ושתינו תה עם נענע.", ["cp1255", "iso8859-8"]),
    "Arabic": ("أمس ذهبنا إلى السوق واشترينا الكثير من الفواكه الطازجة.", ["cp1256", "iso8859-6"]),
    "Thai": ("เมื่อวานนี้ฉันไปตลาดกับแม่และซื้อผลไม้สดมากมาย", ["cp874", "tis-620"]),
    "Japanese": ("昨日は友達と一緒に海へ行って、おいしい魚を食べました。", ["shift_jis", "euc-jp", "iso2022_jp"]),
    "Chinese": ("昨天晚上我和朋友们去河边散步，还吃了很好吃的饺子。", ["gb18030", "gbk"]),
    "Taiwanese": ("昨天晚上我和朋友們去河邊散步，還吃了很好吃的餃子。", ["big5"]),
    "Korean": ("어제 저녁에 친구들과 강가를 산책하고 맛있는 만두를 먹었어요.", ["euc-kr", "cp949"]),
}
CASES = [(language, encoding) for language, (_, encodings) in LETTERS.items() for encoding in encodings]


@pytest.mark.parametrize("times", [1, 40], ids=["a line", "a page"])
@pytest.mark.parametrize(("language", "encoding"), CASES)
def test_a_letter_is_read_as_it_was_written(language: str, encoding: str, times: int) -> None:
    """Sentences that nothing was chosen by. The detector before this one turned Polish into Latvian and Thai into Chinese."""
    text = f"{LETTERS[language][0]}\n" * times
    assert decode_text(text.encode(encoding)).text == text


@pytest.mark.parametrize(
    "text",
    ["naïve", "El niño", "£5", "a – b", "Zoë’s café", "à bientôt", "© 2019", "½ cup", "José", "“Hi,” she said.", "90°", "é"],
)
def test_a_few_western_letters_are_no_evidence_for_elsewhere(text: str) -> None:
    assert decode_text(text.encode("cp1252")) == (text, "cp1252")
    assert decode_text(f"{'plain words ' * 40}{text}".encode("cp1252")).text.endswith(text)


def test_quotation_marks_tell_windows_from_iso() -> None:
    """The ISO table has control characters where Windows has its quotes: they vanished from the stored text."""
    text = "„Jó reggelt” – mondta az őz a fűben, és elsétált az erdő felé."
    assert decode_text(text.encode("cp1250")) == (text, "cp1250")


def test_the_letters_that_tell_may_come_late() -> None:
    text = "plain words\n" * 40_000 + LETTERS["Polish"][0]
    assert decode_text(text.encode("cp1250")) == (text, "cp1250")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_text_needs_no_byte_order_mark(encoding: str) -> None:
    """It was refused as binary data."""
    text = "Zoë’s café, plain words. 😀\nAnd more.\n"
    assert decode_text(text.encode(encoding)) == (text, encoding)


@pytest.mark.parametrize("encoding", LEGACY)
def test_every_encoding_in_the_list_is_one_that_python_can_read(encoding: str) -> None:
    assert codecs.lookup(encoding)


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        ("# Ä".encode(), "utf-8"),
        (codecs.BOM_UTF8 + b"x", "utf-8-sig"),
        ("x".encode("utf-16"), "utf-16"),
        ("£5".encode("cp1252"), "cp1252"),
        (b"plain", "utf-8"),
    ],
)
def test_the_encoding_is_told_with_the_text(data: bytes, encoding: str) -> None:
    assert read_document(data, "text/plain", None).encoding == encoding


MARKED = {
    "utf-8": b"",
    "utf-8-sig": b"",
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}
ODD = st.sampled_from(
    ["e\u0301", "👩‍👩‍👧", "\u200f", "\ufeff", "ﬁ", "\r\n", "\r", "\n\n", "\u2028", "# A\n", "```\n", "| a |\n", "  ", "\x85"]
)
TEXTS = st.lists(
    st.one_of(ODD, st.text(max_size=12), st.sampled_from([*(letter for letter, _ in LETTERS.values())])), max_size=14
).map("".join)


def check_every_byte(stored: str, max_tokens: int) -> None:
    """The chunks of a stored text are its bytes, all of them and each once, and none is longer than allowed."""
    data = stored.encode()
    chunks = chunk_document(make_document("1", content=data), stored, ChunkingSettings(max_tokens=max_tokens))
    assert [(one.byte_end, other.byte_start) for one, other in pairwise(chunks) if one.byte_end != other.byte_start] == []
    assert b"".join(data[chunk.byte_start : chunk.byte_end] for chunk in chunks) == data
    for chunk in chunks:
        piece = data[chunk.byte_start : chunk.byte_end]
        assert piece.decode()
        assert sha256_hex(piece) == chunk.text_sha256
        assert chunk.tokens <= max_tokens


@given(TEXTS, st.sampled_from(sorted(MARKED)), st.sampled_from([16, 56, 2000]))
def test_text_of_a_unicode_encoding_is_kept_to_the_letter_and_cut_at_exact_bytes(text: str, encoding: str, limit: int) -> None:
    hypothesis.assume("\x00" not in text)
    stored, code = text_or_code(MARKED[encoding] + text.encode(encoding))
    if stored is None:
        assert code in ("document_empty", "no_text", "binary_content")
        return
    wanted = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n\n")
    wanted = "".join(c for c in wanted if c in "\t\n\v" or not (ord(c) < 32 or ord(c) == 127))
    if not MARKED[encoding]:
        wanted = wanted.removeprefix("\ufeff")
    assert stored == wanted
    check_every_byte(stored, limit)


def text_or_code(data: bytes) -> tuple[str | None, str | None]:
    try:
        return read_document(data, "text/plain", None).text, None
    except IngestionError as error:
        return None, error.code


def check_refused_or_cut(data: bytes, limit: int) -> None:
    text, code = text_or_code(data)
    if text is None:
        assert code in ("document_empty", "no_text", "binary_content", "encoding_unknown")
    else:
        check_every_byte(text, limit)


@given(TEXTS, st.sampled_from(LEGACY), st.sampled_from([16, 56, 2000]))
def test_bytes_of_an_old_encoding_are_refused_by_name_or_cut_exactly(text: str, encoding: str, limit: int) -> None:
    check_refused_or_cut(text.encode(encoding, "ignore"), limit)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_by_name_or_cut_exactly(data: bytes) -> None:
    check_refused_or_cut(data, 56)
