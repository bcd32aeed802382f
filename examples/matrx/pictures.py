"""Pictures of 64x32 pixels: what an app's main() returns, drawn and written as PNG."""

from __future__ import annotations

import re
import struct
import zlib
from typing import Any

WIDTH = 64
HEIGHT = 32
COLOR = re.compile(r"#[0-9A-Fa-f]{6}")

# Three by five pixels: an octal digit to a row, its bits from left to right.
FONT = {
    "0": "75557",
    "1": "26227",
    "2": "71747",
    "3": "71717",
    "4": "55711",
    "5": "74717",
    "6": "74757",
    "7": "71111",
    "8": "75757",
    "9": "75717",
    "A": "25755",
    "B": "65656",
    "C": "34443",
    "D": "65556",
    "E": "74647",
    "F": "74644",
    "G": "34553",
    "H": "55755",
    "I": "72227",
    "J": "11152",
    "K": "55655",
    "L": "44447",
    "M": "57755",
    "N": "65555",
    "O": "25552",
    "P": "65644",
    "Q": "25563",
    "R": "65655",
    "S": "34216",
    "T": "72222",
    "U": "55557",
    "V": "55552",
    "W": "55775",
    "X": "55255",
    "Y": "55222",
    "Z": "71247",
    " ": "00000",
    ".": "00002",
    ":": "02020",
    "-": "00700",
    "+": "02720",
    "%": "51245",
    "/": "11244",
    "!": "22202",
    "°": "25200",
    "?": "71202",
}


class PictureError(ValueError):
    """What an app returned is no picture."""


class Picture:
    """Rows of red, green and blue bytes."""

    def __init__(self, background: str = "#000000") -> None:
        self.rows = [bytearray(color_of(background) * WIDTH) for _ in range(HEIGHT)]

    def box(self, x: int, y: int, width: int, height: int, color: bytes) -> None:
        """What lies outside of the picture is left out."""
        for row in self.rows[max(0, y) : max(0, y + height)]:
            for column in range(max(0, x), min(WIDTH, x + width)):
                row[3 * column : 3 * column + 3] = color

    def text(self, x: int, y: int, content: str, color: bytes) -> None:
        for place, letter in enumerate(content.upper()[:WIDTH]):
            for line, digit in enumerate(FONT.get(letter, FONT["?"])):
                for column in range(3):
                    if int(digit, 8) >> (2 - column) & 1:
                        self.box(x + 4 * place + column, y + line, 1, 1, color)

    def png(self) -> bytes:
        header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
        lines = b"".join(b"\0" + row for row in self.rows)  # 0: no filter
        return (
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", header)
            + chunk(b"IDAT", zlib.compress(lines))
            + chunk(b"IEND", b"")
        )


def chunk(name: bytes, data: bytes) -> bytes:
    check = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)


def draw(description: Any) -> Picture:
    """The picture that an app describes. PictureError for what describes none."""
    if not isinstance(description, dict):
        raise PictureError("main() must return render.picture(...)")
    picture = Picture(text_of(description, "background"))
    children = description.get("children")
    if not isinstance(children, list):
        raise PictureError("children must be a list")
    for child in children:
        if not isinstance(child, dict):
            raise PictureError("a child must be render.text(...) or render.box(...)")
        x, y = number_of(child, "x"), number_of(child, "y")
        color = color_of(text_of(child, "color"))
        if child.get("kind") == "box":
            width, height = number_of(child, "width"), number_of(child, "height")
            picture.box(x, y, width, height, color)
        elif child.get("kind") == "text":
            picture.text(x, y, text_of(child, "content"), color)
        else:
            raise PictureError("a child must be render.text(...) or render.box(...)")
    return picture


def color_of(text: str) -> bytes:
    if not COLOR.fullmatch(text):
        raise PictureError("a color must be #RRGGBB")
    return bytes.fromhex(text[1:])


def text_of(thing: dict[str, Any], name: str) -> str:
    value = thing.get(name)
    if not isinstance(value, str):
        raise PictureError(f"{name} must be a string")
    return value


def number_of(thing: dict[str, Any], name: str) -> int:
    value = thing.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise PictureError(f"{name} must be a whole number")
    return value
