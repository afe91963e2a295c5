"""A catalog as a CSV file: UTF-8 or Windows-1251, cells apart by `;`, `,` or a tab, the first row with names of columns.

Pure. A column that is none of ours becomes an attribute of the item. What a cell means is the item's to judge
(`gateway/domain/catalog.py`); read `catalog.py` next.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.domain.catalog import MOST_ITEMS, Item
from gateway.domain.posts import Invalid
from gateway.web.content.problems import refuse

LARGEST_FILE = 4 << 20
COLUMNS = (
    "id", "name", "description", "price", "currency", "category", "image_url", "available", "attributes", "sort_order",
)  # fmt: skip
_ALSO = {
    "id": ("код", "артикул", "sku", "ид"),
    "name": ("название", "наименование", "товар", "услуга", "title"),
    "description": ("описание",),
    "price": ("цена", "стоимость"),
    "currency": ("валюта",),
    "category": ("категория", "раздел", "группа"),
    "image_url": ("картинка", "фото", "изображение", "image", "picture"),
    "available": ("в наличии", "наличие", "доступно", "доступен"),
    "attributes": ("свойства",),
    "sort_order": ("порядок", "сортировка", "sort"),
}  # fmt: skip
_NAMES = {other: name for name, others in _ALSO.items() for other in (name, *others)}
_YES = frozenset(("", "1", "true", "yes", "y", "да", "есть", "+", "истина"))
_NO = frozenset(("0", "false", "no", "n", "нет", "-", "ложь"))
_DELIMITERS = (";", ",", "\t")


Row = tuple[int, Mapping[str, Any], bool]
"""Its number, the fields of an item, and whether it has more cells than the first row."""


def read_catalog_file(raw: bytes) -> list[Row]:
    """Rows with their numbers as a spreadsheet counts them, each as the fields of an item, and whether it is longer than the
    first one. Raises Invalid where the file as a whole is not one."""
    if len(raw) > LARGEST_FILE:
        raise refuse("file", "the file is larger than 4 MiB", "файл больше 4 МиБ")
    text = _decoded(raw)
    rows = _rows(text)
    header = next(((place, row) for place, row in enumerate(rows, 1) if any(cell.strip() for cell in row)), None)
    if header is None:
        raise refuse("file", "the file is empty", "файл пуст")
    first, titles = header
    names = _columns(titles)
    made = [
        (place, _fields(names, row), any(map(str.strip, row[len(names) :])))
        for place, row in enumerate(rows, 1)
        if place > first and any(map(str.strip, row))
    ]
    if len(made) > MOST_ITEMS:
        raise refuse("file", f"the file has more than {MOST_ITEMS} rows", f"в файле больше {MOST_ITEMS} строк")
    return made


def _decoded(raw: bytes) -> str:
    encodings = ["utf-16"] if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else ["utf-8-sig", "cp1251"]
    for encoding in encodings:
        try:
            text = raw.decode(encoding)
        except UnicodeError:
            continue
        if "\x00" not in text:
            return text
    raise refuse("file", "the file is not text in UTF-8 or Windows-1251", "файл — не текст в UTF-8 или Windows-1251")


def _rows(text: str) -> list[list[str]]:
    """Cells, apart by the delimiter with which the first row names the most columns of ours."""
    line = next((line for line in text.splitlines() if line.strip()), "")

    def known(delimiter: str) -> tuple[int, int]:
        cells = line.split(delimiter)
        return sum(1 for cell in cells if cell.strip().strip('"').casefold() in _NAMES), len(cells)

    delimiter = max(_DELIMITERS, key=known)
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error:
        raise refuse(
            "file",
            "a quotation mark is not closed, or stands within a cell",
            "кавычка не закрыта или стоит внутри ячейки",
        ) from None


def _columns(titles: Sequence[str]) -> list[str]:
    """The field of each column; an attribute has a `.` before its name, a column without a title is left out."""
    names = []
    for title in titles:
        bare = title.strip()
        names.append(_NAMES.get(bare.casefold(), f".{bare}" if bare else ""))
    problems = [
        refuse("file", f"there is no column {name}", f"нет колонки {name} ({_ALSO[name][0]})").problems[0]
        for name in ("name", "price") if name not in names
    ]  # fmt: skip
    problems += [
        refuse("file", f"two columns are {name.lstrip('.')}", f"две колонки {name.lstrip('.')}").problems[0]
        for name in dict.fromkeys(names) if name and names.count(name) > 1
    ]  # fmt: skip
    if problems:
        raise Invalid(tuple(problems))
    return names


def _fields(names: Sequence[str], row: Sequence[str]) -> Mapping[str, Any]:
    """The fields of one item. What cannot be one is left as it is, for the item to refuse by name."""
    data: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    for name, cell in zip(names, row, strict=False):
        text = cell.strip()
        if name.startswith("."):
            if text:
                attributes[name[1:]] = text
        elif name == "attributes":
            if text:
                try:
                    given = json.loads(text)
                except ValueError:
                    given = text
                data["attributes"] = given
        elif name == "available":
            lower = text.casefold()
            data[name] = True if lower in _YES else False if lower in _NO else text
        elif name == "sort_order":
            data[name] = text or 0
        elif name:
            data[name] = text
    if attributes and isinstance(data.get("attributes", {}), dict):
        data["attributes"] = {**attributes, **data.get("attributes", {})}
    if not data.get("id"):
        data["id"] = _id_of(str(data.get("category", "")), str(data.get("name", "")))
    return data


def _id_of(category: str, name: str) -> str:
    """The id of an item that brings none: the same for the same category and name, so that a file can be imported again."""
    return hashlib.sha256(f"{category}\n{name}".casefold().encode("utf-8", "surrogatepass")).hexdigest()[:12]


def catalog_file(items: Iterable[Item]) -> bytes:
    """A catalog as such a file, for spreadsheets: UTF-8 with its mark, `;` between cells. Text that a spreadsheet would take
    for a formula has an apostrophe before it."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=";", lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for item in items:
        plain = item.plain()
        plain["attributes"] = json.dumps(plain["attributes"], ensure_ascii=False) if plain["attributes"] else ""
        plain["available"] = "1" if plain["available"] else "0"
        writer.writerow([_inert(plain[name]) for name in COLUMNS])
    return out.getvalue().encode("utf-8-sig")


def _inert(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
