"""Bytes to text: what can be read is read right, and what cannot has a name."""

from __future__ import annotations

import codecs
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.errors import IngestionError
from lpm_kernel.L0.pdf import drop_unmapped, whole_characters
from lpm_kernel.L0.read import MIME_OF_EXTENSION, mime_of, read_text

from .pdfs import make_identity_pdf, make_pdf

PDF = "application/pdf"
WESTERN = [
    "Café crème, naïve façade, déjà vu.",
    "Ich grüße Jürgen über die Straße; größer geht es nicht.",
    "El señor Muñoz comió piña mañana por la mañana.",
    "Temperature was 5.8 °C and the vet cost £265.",
    "Le garçon a mangé une pêche. " * 20,
]


def code_of(data: bytes, mime: str = "text/plain") -> str:
    with pytest.raises(IngestionError) as caught:
        read_text(data, mime)
    assert not caught.value.retryable
    assert caught.value.message
    return caught.value.code


@pytest.mark.parametrize(
    ("filename", "mime"),
    [("a.md", "text/markdown"), ("A.B.MARKDOWN", "text/markdown"), ("x.TXT", "text/plain"), ("my notes.pdf", PDF)],
)
def test_a_type_is_known_by_its_extension_in_any_case(filename: str, mime: str) -> None:
    assert mime_of(filename) == mime


@pytest.mark.parametrize("filename", ["a.docx", "a", ".md", "a.pdf.exe", "md"])
def test_an_unknown_type_is_named_with_those_that_are_read(filename: str) -> None:
    with pytest.raises(IngestionError) as caught:
        mime_of(filename)
    assert caught.value.code == "type_unknown"
    for extension in MIME_OF_EXTENSION:
        assert extension in caught.value.message


@given(st.text().filter(lambda text: not text.startswith("\ufeff")))
def test_utf_8_comes_back_with_plain_line_ends(text: str) -> None:
    """Control characters go: PostgreSQL stores no NUL, and a prompt needs none of them."""
    wanted = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n\n")
    wanted = "".join(c for c in wanted if c in "\t\n\v" or not (ord(c) < 32 or ord(c) == 127))
    reasons = {
        "document_empty": not text,
        "no_text": not wanted.strip(),
        "binary_content": any(ord(c) < 32 or ord(c) == 127 for c in text),
    }
    try:
        found, code = read_text(text.encode(), "text/markdown"), None
    except IngestionError as error:
        found, code = None, error.code
    assert found == wanted if code is None else reasons[code]


def test_every_line_end_becomes_one_sort() -> None:
    assert read_text(b"one\r\ntwo\rthree\nfour\x0cfive", "text/plain") == "one\ntwo\nthree\nfour\n\nfive"


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_a_byte_order_mark_is_believed_and_left_out(mark: bytes, encoding: str) -> None:
    text = "Zoë’s café 😀\r\ncosts £5"
    assert read_text(mark + text.encode(encoding), "text/plain") == text.replace("\r\n", "\n")


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
@pytest.mark.parametrize("text", WESTERN, ids=["french", "german", "spanish", "english", "long"])
def test_western_text_of_old_programs_keeps_its_letters(text: str, encoding: str) -> None:
    """The detector's first guess was cp1250: every "£265" became "Ł265" and every "ñ" an "ń", without a word of warning."""
    assert read_text(text.encode(encoding), "text/plain") == text


def test_quotes_and_dashes_of_old_windows_programs_are_read() -> None:
    text = "The café’s “quoted” line – with a dash… and €5."
    assert read_text(text.encode("cp1252"), "text/markdown") == text


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Привет, как дела? Сегодня мы ездили на дачу и собирали яблоки.", "cp1251"),
        ("今日は良い天気ですね。明日も晴れるでしょう。", "shift_jis"),
        ("Zażółć gęślą jaźń i wszystko będzie dobrze, powiedział dziadek.", "cp1250"),
    ],
)
def test_text_of_elsewhere_is_not_taken_for_western(text: str, encoding: str) -> None:
    assert read_text(text.encode(encoding), "text/plain") == text


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "document_empty"),
        (b" \r\n\t\n", "no_text"),
        (codecs.BOM_UTF8, "no_text"),
        (bytes.fromhex("89504e470d0a1a0a0000000d49484452"), "binary_content"),
        (b"PK\x03\x04\x14\x00\x06\x00" + bytes(40), "binary_content"),
        (b"text with a nul \x00 and other \x01\x02\x03 bytes", "binary_content"),
        (random.Random(1).randbytes(3000), "binary_content"),
        (bytes(random.Random(2).choices(range(1, 256), k=3000)), "encoding_unknown"),
        (codecs.BOM_UTF16_LE + b"odd", "encoding_unknown"),
        (codecs.BOM_UTF8 + b"\xff\xfe", "encoding_unknown"),
    ],
    ids=["empty", "blank", "only a mark", "png", "zip", "controls", "noise", "noise without nul", "odd utf-16", "false mark"],
)
def test_what_is_no_text_is_refused_by_name(data: bytes, code: str) -> None:
    assert code_of(data) == code


def test_a_stray_control_character_in_a_long_text_is_dropped() -> None:
    assert read_text(b"word " * 500 + b"\x1b end", "text/plain") == "word " * 500 + " end"


def test_a_refusal_holds_no_document_text() -> None:
    with pytest.raises(IngestionError) as caught:
        read_text(b"my bank card is 1234 \x00\x01\x02", "text/plain")
    assert "1234" not in str(caught.value)


def test_a_sound_pdf_is_read_page_after_page() -> None:
    text = read_text(make_pdf(["Our cat is called Pilchard.", "The café took £184,000."]), PDF)
    assert text.index("Our cat is called Pilchard.") < text.index("The café took £184,000.")
    assert "\f" not in text


@pytest.mark.parametrize("key_bits", [40, 128, 256])
def test_a_pdf_with_a_password_is_refused(key_bits: int) -> None:
    assert code_of(make_pdf(["secret"], password="open sesame", key_bits=key_bits), PDF) == "pdf_encrypted"


@pytest.mark.parametrize("key_bits", [40, 128])
def test_a_pdf_that_only_forbids_printing_is_read(key_bits: int) -> None:
    """Its user password is empty: every reader opens it."""
    assert "open to read" in read_text(make_pdf(["open to read"], password="", key_bits=key_bits), PDF)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_a_truncated_pdf_is_refused_and_never_read_in_part(share: float) -> None:
    whole = make_pdf([f"This is page {i}." for i in range(6)])
    assert code_of(whole[: int(len(whole) * share)], PDF) == "pdf_broken"


@pytest.mark.parametrize("data", [b"%PDF-1.7\n" + b"\x00\xff" * 500, b"<html>not a pdf</html>", b"%PDF-"])
def test_what_only_looks_like_a_pdf_is_refused(data: bytes) -> None:
    assert code_of(data, PDF) == "pdf_broken"


def test_a_scan_without_recognised_text_is_refused() -> None:
    assert code_of(make_pdf([None, None]), PDF) == "no_text"


def test_a_pdf_of_halves_of_characters_is_text_that_can_be_stored() -> None:
    """A font that takes glyph numbers for characters gave lone surrogates. No encoder takes them: the run broke outside the
    tree of errors, and so did every later run of that user."""
    text = read_text(make_identity_pdf([0x41, 0xD83D, 0xDE00, 0xD801], to_unicode=True, plain="words " * 4), PDF)
    assert text.encode().decode().startswith("A😀\ufffd")


@given(st.text(st.characters(), max_size=30))
def test_whole_characters_change_nothing_but_halves(text: str) -> None:
    text = whole_characters(text)
    text.encode()
    assert whole_characters(text) == text


@pytest.mark.parametrize(
    ("halves", "whole"),
    [("\ud83d\ude00", "😀"), ("a\ud83d", "a\ufffd"), ("\ude00\ud83db", "\ufffd\ufffdb"), ("Zoë 😀", "Zoë 😀")],
)
def test_halves_are_joined_where_they_meet(halves: str, whole: str) -> None:
    assert whole_characters(halves) == whole


@pytest.mark.parametrize("plain", ["", "page 1"])
def test_a_pdf_whose_font_names_no_characters_is_refused(plain: str) -> None:
    """It was read as "(cid:65)(cid:55297)", which a twin then learned and cited."""
    pdf = make_identity_pdf([*range(65, 90), 0xD801], to_unicode=False, plain=plain)
    assert code_of(pdf, PDF) == "pdf_fonts_unreadable"


def test_a_pdf_of_characters_that_no_one_can_tell_is_refused() -> None:
    assert code_of(make_identity_pdf([0xD801] * 20, to_unicode=True, plain="page 1"), PDF) == "pdf_fonts_unreadable"


def test_a_few_glyphs_without_a_character_are_dropped() -> None:
    """The bullets of an old font: their numbers were words of the document."""
    text = read_text(make_identity_pdf([127, 127], to_unicode=False, plain="A list of things to buy: tea, milk."), PDF)
    assert text.strip() == "A list of things to buy: tea, milk."


@pytest.mark.parametrize(("letters", "refused"), [(9, False), (8, True)])
def test_one_glyph_in_ten_may_be_unreadable(letters: int, refused: bool) -> None:
    text = "(cid:65)" + " a" * letters
    if not refused:
        assert drop_unmapped(text) == " a" * letters
        return
    with pytest.raises(IngestionError) as caught:
        drop_unmapped(text)
    assert (caught.value.code, caught.value.retryable) == ("pdf_fonts_unreadable", False)
