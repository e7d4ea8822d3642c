"""Text-to-SQL: a random schema, then questions in words with the query that answers each (SQLite's dialect)."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from hedgespec.zoo.generators import Exchange

_THEMES: dict[str, tuple[str, ...]] = {
    "customers": ("name TEXT", "city TEXT", "country TEXT", "age INTEGER", "email TEXT", "credit REAL"),
    "orders": ("amount REAL", "status TEXT", "quantity INTEGER", "ordered_at TEXT", "discount REAL"),
    "employees": ("name TEXT", "salary REAL", "department TEXT", "hired_at TEXT", "age INTEGER", "title TEXT"),
    "products": ("name TEXT", "price REAL", "category TEXT", "stock INTEGER", "weight REAL", "brand TEXT"),
    "students": ("name TEXT", "grade INTEGER", "major TEXT", "score REAL", "city TEXT", "age INTEGER"),
    "courses": ("title TEXT", "credits INTEGER", "teacher TEXT", "level TEXT", "fee REAL"),
    "flights": ("origin TEXT", "destination TEXT", "duration INTEGER", "price REAL", "airline TEXT", "seats INTEGER"),
    "books": ("title TEXT", "author TEXT", "pages INTEGER", "year INTEGER", "genre TEXT", "price REAL"),
    "movies": ("title TEXT", "director TEXT", "year INTEGER", "rating REAL", "genre TEXT", "budget REAL"),
    "patients": ("name TEXT", "age INTEGER", "disease TEXT", "ward TEXT", "admitted_at TEXT", "weight REAL"),
    "stores": ("name TEXT", "city TEXT", "revenue REAL", "opened_at TEXT", "manager TEXT", "staff INTEGER"),
    "players": ("name TEXT", "team TEXT", "goals INTEGER", "age INTEGER", "position TEXT", "salary REAL"),
    "vehicles": ("model TEXT", "maker TEXT", "year INTEGER", "mileage INTEGER", "price REAL", "color TEXT"),
    "invoices": ("total REAL", "status TEXT", "issued_at TEXT", "currency TEXT", "tax REAL"),
    "hotels": ("name TEXT", "city TEXT", "stars INTEGER", "rooms INTEGER", "price REAL", "country TEXT"),
    "sensors": ("location TEXT", "kind TEXT", "reading REAL", "battery INTEGER", "seen_at TEXT"),
}
_WORDS: dict[str, tuple[str, ...]] = {
    "city": ("Paris", "Berlin", "Madrid", "Oslo", "Tokyo", "Boston", "Lima", "Cairo", "Dublin", "Vienna"),
    "country": ("France", "Germany", "Spain", "Norway", "Japan", "Peru", "Egypt", "Ireland", "Austria"),
    "status": ("open", "closed", "pending", "paid", "cancelled", "shipped"),
    "department": ("Sales", "Finance", "Research", "Support", "Marketing", "Legal"),
    "category": ("toys", "tools", "garden", "books", "sports", "music"),
    "major": ("Physics", "History", "Biology", "Economics", "Chemistry", "Law"),
    "genre": ("drama", "comedy", "science", "travel", "crime", "poetry"),
    "level": ("beginner", "intermediate", "advanced"),
    "color": ("red", "blue", "black", "white", "silver", "green"),
    "currency": ("EUR", "USD", "GBP", "JPY", "CHF"),
}
_OTHER_WORDS = ("Alpha", "Nova", "Orion", "Delta", "Vega", "Atlas", "Luna", "Terra", "Echo", "Zenith")


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the random schema. columns: "name TYPE"; parent: the table that its foreign key refers to."""

    name: str
    columns: tuple[str, ...]
    parent: str | None

    @property
    def texts(self) -> list[str]:
        """The text columns that hold categories, not names."""
        return [
            c.split()[0] for c in self.columns if c.endswith("TEXT") and not c.startswith(("email", "name", "title"))
        ]

    @property
    def numbers(self) -> list[str]:
        """The columns that hold numbers."""
        return [c.split()[0] for c in self.columns if not c.endswith("TEXT")]

    @property
    def label(self) -> str:
        """The column that names a row to a reader."""
        names = [c.split()[0] for c in self.columns]
        return next((c for c in ("name", "title") if c in names), "id")

    def create(self) -> str:
        """Return the CREATE TABLE statement."""
        lines = ["    id INTEGER PRIMARY KEY", *(f"    {column}" for column in self.columns)]
        if self.parent:
            lines.append(f"    {singular(self.parent)}_id INTEGER REFERENCES {self.parent}(id)")
        return f"CREATE TABLE {self.name} (\n" + ",\n".join(lines) + "\n);"


def document(seed: int) -> tuple[str, list[Exchange]]:
    """Make a schema and eight to fourteen question-query pairs on it."""
    rng = Random(f"sql-{seed}")
    tables = _tables(rng)
    return "\n".join(t.create() for t in tables), [_pair(rng, tables) for _ in range(rng.randint(8, 14))]


def singular(table: str) -> str:
    """Return the singular of a table's name: all are regular plurals."""
    return table[:-1]


def _tables(rng: Random) -> list[Table]:
    names = rng.sample(sorted(_THEMES), rng.choice((1, 2, 2, 3)))
    tables: list[Table] = []
    for i, name in enumerate(names):
        whole = Table(name, _THEMES[name], None)
        kept = rng.sample(whole.columns, rng.randint(4, len(whole.columns)))
        needed = {rng.choice(whole.texts), rng.choice(whole.numbers)}
        parent = names[rng.randrange(i)] if i else None
        tables.append(Table(name, tuple(c for c in whole.columns if c in kept or c.split()[0] in needed), parent))
    return tables


def _pair(rng: Random, tables: list[Table]) -> Exchange:
    children = [t for t in tables if t.parent]
    if children and rng.random() < 0.4:
        child = rng.choice(children)
        return _join(rng, child, next(t for t in tables if t.name == child.parent))
    return _single(rng, rng.choice(tables))


def _single(rng: Random, table: Table) -> Exchange:
    t, number, text, label = table.name, rng.choice(table.numbers), rng.choice(table.texts), table.label
    word, limit = rng.choice(_WORDS.get(text, _OTHER_WORDS)), rng.choice((3, 5, 10, 20))
    bound = rng.choice((2, 5, 10, 18, 25, 30, 50, 100, 250, 500, 1000, 2000))
    spoken, op = rng.choice((("above", ">"), ("below", "<"), ("at least", ">="), ("at most", "<=")))
    function, adjective = rng.choice((("AVG", "average"), ("SUM", "total"), ("MAX", "highest"), ("MIN", "lowest")))
    way, direction = rng.choice((("highest", "DESC"), ("lowest", "ASC")))
    ask = rng.choice(("Show", "List", "Find", "Get"))
    forms = (
        (f"How many {t} have {text} {word}?", f"SELECT COUNT(*) FROM {t} WHERE {text} = '{word}';"),
        (f"How many {t} are there for each {text}?", f"SELECT {text}, COUNT(*) FROM {t} GROUP BY {text};"),
        (f"{ask} the {label} of all {t} with {number} {spoken} {bound}.",
         f"SELECT {label} FROM {t} WHERE {number} {op} {bound};"),
        (f"What is the {adjective} {number} of all {t}?", f"SELECT {function}({number}) FROM {t};"),
        (f"What is the {adjective} {number} of {t} for each {text}?",
         f"SELECT {text}, {function}({number}) FROM {t} GROUP BY {text};"),
        (f"{ask} the {limit} {t} with the {way} {number}.",
         f"SELECT * FROM {t} ORDER BY {number} {direction} LIMIT {limit};"),
        (f"{ask} the {label} and {number} of {t} with {text} {word}, ordered by {number}.",
         f"SELECT {label}, {number} FROM {t} WHERE {text} = '{word}' ORDER BY {number};"),
        (f"Which values of {text} have more than {limit} {t}?",
         f"SELECT {text} FROM {t} GROUP BY {text} HAVING COUNT(*) > {limit};"),
        (f"{ask} all {t} with {number} higher than the average.",
         f"SELECT * FROM {t} WHERE {number} > (SELECT AVG({number}) FROM {t});"),
        (f"How many different values of {text} do the {t} have?", f"SELECT COUNT(DISTINCT {text}) FROM {t};"),
        (f"Delete all {t} with {number} {spoken} {bound}.", f"DELETE FROM {t} WHERE {number} {op} {bound};"),
        (f"Set the {text} of the {t[:-1]} with id {bound} to {word}.",
         f"UPDATE {t} SET {text} = '{word}' WHERE id = {bound};"),
        (f"{ask} the {t} with {text} {word} and {number} {spoken} {bound}.",
         f"SELECT * FROM {t} WHERE {text} = '{word}' AND {number} {op} {bound};"),
    )  # fmt: skip
    return Exchange(*rng.choice(forms))


def _join(rng: Random, child: Table, parent: Table) -> Exchange:
    c, p, key = child.name, parent.name, f"{singular(parent.name)}_id"
    number, text, label = rng.choice(child.numbers), rng.choice(parent.texts), parent.label
    word, limit = rng.choice(_WORDS.get(text, _OTHER_WORDS)), rng.choice((2, 3, 5, 10))
    function, adjective = rng.choice((("AVG", "average"), ("SUM", "total"), ("MAX", "highest"), ("MIN", "lowest")))
    on = f"JOIN {p} ON {c}.{key} = {p}.id"
    forms = (
        (f"What is the {adjective} {number} of {c} for each {text} of the {p}?",
         f"SELECT {p}.{text}, {function}({c}.{number}) FROM {c} {on} GROUP BY {p}.{text};"),
        (f"List the {p} with no {c}.", f"SELECT * FROM {p} WHERE id NOT IN (SELECT {key} FROM {c});"),
        (f"How many {c} belong to {p} with {text} {word}?",
         f"SELECT COUNT(*) FROM {c} {on} WHERE {p}.{text} = '{word}';"),
        (f"Show each {label} of the {p} with its number of {c}.",
         f"SELECT {p}.{label}, COUNT({c}.id) FROM {p} LEFT JOIN {c} ON {c}.{key} = {p}.id GROUP BY {p}.id;"),
        (f"Which {p} have more than {limit} {c}?",
         f"SELECT {p}.{label} FROM {c} {on} GROUP BY {p}.id HAVING COUNT(*) > {limit};"),
        (f"Find the {limit} {p} with the largest {adjective} {number} of {c}.",
         f"SELECT {p}.{label}, {function}({c}.{number}) FROM {c} {on} GROUP BY {p}.id "
         f"ORDER BY {function}({c}.{number}) DESC LIMIT {limit};"),
    )  # fmt: skip
    return Exchange(*rng.choice(forms))
