"""One PDF to text, in a process of its own: bytes on standard input, a code and the text or the reason on standard output.

Belongs here: the parser, and the limits this process puts on itself.
Does not belong here: anything of ours; this file is run alone, with nothing but pdfminer and the standard library in reach.
"""

from __future__ import annotations

import io
import sys

UTF_8 = ("utf-8", "surrogatepass")  # halves of characters are mended by the parent


def extract(data: bytes) -> tuple[str, str]:
    """("", the text) or (the code of the refusal, its reason)."""
    from pdfminer.high_level import extract_text
    from pdfminer.pdfdocument import PDFEncryptionError, PDFPasswordIncorrect

    try:
        return "", extract_text(io.BytesIO(data))
    except (PDFPasswordIncorrect, PDFEncryptionError):
        return "pdf_encrypted", "the PDF is protected by a password; upload a copy without one"
    except MemoryError:
        return "pdf_too_heavy", "the PDF needs more memory than is allowed; export it anew, or split it"
    except Exception as error:
        # A damaged PDF makes the parser raise almost anything; each of them means the same to the person who sent it.
        return "pdf_broken", f"the PDF cannot be read ({type(error).__name__}); try to save it again"


def limit_this_process(seconds: int, memory_bytes: int) -> None:
    """Units: seconds of processor time, so that a busy machine refuses nothing; bytes of address space."""
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # it has nothing to write


def main() -> None:
    seconds, memory_bytes, max_text_bytes = map(int, sys.argv[1:])
    limit_this_process(seconds, memory_bytes)
    data = sys.stdin.buffer.read()
    try:
        code, words = extract(data)
        answer = words.encode(*UTF_8)
    except MemoryError:
        code, answer = "pdf_too_heavy", b"the PDF needs more memory than is allowed; export it anew, or split it"
    if not code and len(answer) > max_text_bytes:
        code, answer = "pdf_too_heavy", b"the PDF unpacks to more text than is allowed; split it"
    sys.stdout.buffer.write(code.encode() + b"\n" + answer)


if __name__ == "__main__":
    main()
