"""Multi-step arithmetic word problems whose reasoning is written out, one equation per line."""

from __future__ import annotations

from random import Random

from hedgespec.zoo.generators import Exchange

_NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Iris", "Jack", "Kate", "Liam",
          "Maya", "Noah", "Olga", "Paul", "Rosa", "Sam", "Tina", "Victor", "Wendy", "Yusuf", "Zoe", "Omar")  # fmt: skip
_ITEMS = ("apples", "books", "pencils", "stickers", "marbles", "cookies", "tickets", "stamps", "coins", "cards",
          "oranges", "shells", "buttons", "flowers", "candles", "bottles", "notebooks", "eggs", "beads", "toys")  # fmt: skip
_PLACES = ("market", "library", "school", "bakery", "garden", "farm", "museum", "station", "workshop", "store")
_CONTAINERS = ("boxes", "bags", "baskets", "shelves", "jars", "crates")


def document(seed: int) -> list[Exchange]:
    """Make a worksheet of six to ten problems."""
    rng = Random(f"arithmetic-{seed}")
    kinds = (_shopping, _gifts, _containers, _trip, _savings, _discount, _rectangle, _team, _baking, _reading, _chain)
    return [rng.choice(kinds)(rng) for _ in range(rng.randint(6, 10))]


def _solution(lines: list[str], result: int, unit: str) -> str:
    return "\n".join([*lines, f"The answer is {result}{' ' + unit if unit else ''}."])


def _shopping(rng: Random) -> Exchange:
    name, place, (first, second) = rng.choice(_NAMES), rng.choice(_PLACES), rng.sample(_ITEMS, 2)
    a, b, p, q = rng.randint(2, 12), rng.randint(2, 12), rng.randint(2, 9), rng.randint(2, 9)
    total = a * p + b * q
    paid = total + rng.choice((5, 10, 20, 50)) - total % 5
    return Exchange(
        f"{name} buys {a} {first} for {p} dollars each and {b} {second} for {q} dollars each at the {place}. "
        f"{name} pays with {paid} dollars. How much change does {name} get?",
        _solution(
            [f"The {first} cost {a} * {p} = {a * p} dollars.", f"The {second} cost {b} * {q} = {b * q} dollars.",
             f"Together they cost {a * p} + {b * q} = {total} dollars.",
             f"The change is {paid} - {total} = {paid - total} dollars."], paid - total, "dollars"),
    )  # fmt: skip


def _gifts(rng: Random) -> Exchange:
    (name, friend, other), item = rng.sample(_NAMES, 3), rng.choice(_ITEMS)
    given, lost, left = rng.randint(2, 30), rng.randint(2, 20), rng.randint(5, 60)
    start, found = given + lost + left, rng.randint(2, 25)
    return Exchange(
        f"{name} has {start} {item}. {name} gives {given} {item} to {friend} and {lost} {item} to {other}, and then "
        f"finds {found} more. How many {item} does {name} have now?",
        _solution(
            [f"After the gift to {friend}, {name} has {start} - {given} = {start - given} {item}.",
             f"After the gift to {other}, {name} has {start - given} - {lost} = {left} {item}.",
             f"With the found ones, {name} has {left} + {found} = {left + found} {item}."], left + found, item),
    )  # fmt: skip


def _containers(rng: Random) -> Exchange:
    item, container, place = rng.choice(_ITEMS), rng.choice(_CONTAINERS), rng.choice(_PLACES)
    boxes, each, sold = rng.randint(3, 15), rng.randint(4, 20), rng.randint(3, 11)
    total = boxes * each
    left = total - sold
    return Exchange(
        f"The {place} has {boxes} {container} with {each} {item} in each. It sells {sold} {item}. "
        f"How many {item} are left at the {place}?",
        _solution([f"There are {boxes} * {each} = {total} {item}.",
                   f"After the sale there are {total} - {sold} = {left} {item}."], left, item),
    )  # fmt: skip


def _trip(rng: Random) -> Exchange:
    name, vehicle = rng.choice(_NAMES), rng.choice(("car", "train", "bus", "bicycle", "truck", "boat"))
    v, t, w, u = rng.randint(3, 18) * 5, rng.randint(2, 6), rng.randint(3, 18) * 5, rng.randint(2, 6)
    return Exchange(
        f"{name} travels by {vehicle} for {t} hours at {v} km per hour and then for {u} hours at {w} km per hour. "
        f"How far does {name} travel?",
        _solution([f"The first part is {t} * {v} = {t * v} km.", f"The second part is {u} * {w} = {u * w} km.",
                   f"In total {name} travels {t * v} + {u * w} = {t * v + u * w} km."], t * v + u * w, "km"),
    )  # fmt: skip


def _savings(rng: Random) -> Exchange:
    name, start, weekly, weeks = rng.choice(_NAMES), rng.randint(5, 90), rng.randint(2, 15), rng.randint(3, 12)
    spent = rng.randint(2, start)
    saved = weekly * weeks
    return Exchange(
        f"{name} has {start} dollars and saves {weekly} dollars every week for {weeks} weeks. "
        f"Then {name} spends {spent} dollars. How much money does {name} have?",
        _solution([f"In {weeks} weeks {name} saves {weeks} * {weekly} = {saved} dollars.",
                   f"Then {name} has {start} + {saved} = {start + saved} dollars.",
                   f"After spending, {name} has {start + saved} - {spent} = {start + saved - spent} dollars."],
                  start + saved - spent, "dollars"),
    )  # fmt: skip


def _discount(rng: Random) -> Exchange:
    name, item = rng.choice(_NAMES), rng.choice(("bicycle", "jacket", "lamp", "camera", "guitar", "table", "phone"))
    percent, price, count = rng.choice((10, 20, 25, 50)), rng.randint(2, 30) * 20, rng.randint(1, 4)
    off = price * percent // 100
    total = (price - off) * count
    return Exchange(
        f"A {item} costs {price} dollars. Today there is a discount of {percent} percent. "
        f"How much does {name} pay for {count} of them?",
        _solution([f"The discount is {price} * {percent} / 100 = {off} dollars.",
                   f"The new price is {price} - {off} = {price - off} dollars.",
                   f"{name} pays {count} * {price - off} = {total} dollars."], total, "dollars"),
    )  # fmt: skip


def _rectangle(rng: Random) -> Exchange:
    place, a, b = rng.choice(("garden", "field", "room", "yard", "park")), rng.randint(3, 25), rng.randint(3, 25)
    cost = rng.randint(2, 9)
    perimeter = 2 * (a + b)
    return Exchange(
        f"A {place} is {a} meters long and {b} meters wide. A fence costs {cost} dollars per meter. "
        f"How much does a fence around the {place} cost?",
        _solution([f"Length and width together are {a} + {b} = {a + b} meters.",
                   f"The fence is 2 * {a + b} = {perimeter} meters long.",
                   f"It costs {perimeter} * {cost} = {perimeter * cost} dollars."], perimeter * cost, "dollars"),
    )  # fmt: skip


def _team(rng: Random) -> Exchange:
    names, item = rng.sample(_NAMES, 3), rng.choice(_ITEMS)
    a, times, more = rng.randint(3, 20), rng.randint(2, 5), rng.randint(2, 15)
    b, c = a * times, a * times + more
    return Exchange(
        f"{names[0]} has {a} {item}. {names[1]} has {times} times as many, and {names[2]} has {more} more than "
        f"{names[1]}. How many {item} do they have together?",
        _solution([f"{names[1]} has {times} * {a} = {b} {item}.", f"{names[2]} has {b} + {more} = {c} {item}.",
                   f"{names[0]} and {names[1]} have {a} + {b} = {a + b} {item}.",
                   f"Together they have {a + b} + {c} = {a + b + c} {item}."], a + b + c, item),
    )  # fmt: skip


def _baking(rng: Random) -> Exchange:
    name, each, people = rng.choice(_NAMES), rng.randint(2, 6), rng.randint(3, 12)
    trays = rng.randint(2, 8)
    per_tray = rng.randint(each * people // trays + 1, each * people // trays + 12)
    baked, eaten = trays * per_tray, each * people
    return Exchange(
        f"{name} bakes {trays} trays of {per_tray} cookies. {people} guests eat {each} cookies each. "
        f"How many cookies are left?",
        _solution([f"{name} bakes {trays} * {per_tray} = {baked} cookies.",
                   f"The guests eat {people} * {each} = {eaten} cookies.",
                   f"There are {baked} - {eaten} = {baked - eaten} cookies left."], baked - eaten, "cookies"),
    )  # fmt: skip


def _reading(rng: Random) -> Exchange:
    name, daily, days = rng.choice(_NAMES), rng.randint(5, 30), rng.randint(3, 10)
    rest_days = rng.randint(2, 8)
    left = rest_days * rng.randint(4, 25)
    pages = daily * days + left
    return Exchange(
        f"{name} reads a book of {pages} pages, {daily} pages a day for {days} days. The rest must be read in "
        f"{rest_days} days. How many pages a day is that?",
        _solution([f"In {days} days {name} reads {days} * {daily} = {daily * days} pages.",
                   f"Then {pages} - {daily * days} = {left} pages are left.",
                   f"That is {left} / {rest_days} = {left // rest_days} pages a day."], left // rest_days, "pages"),
    )  # fmt: skip


def _chain(rng: Random) -> Exchange:
    value = rng.randint(2, 40)
    words, lines = [f"Start with {value}."], []
    for _ in range(rng.randint(3, 5)):
        kind, n = rng.choice(("Add", "Subtract", "Multiply by")), rng.randint(2, 9)
        if kind == "Multiply by" and value > 200:
            kind = "Add"
        if kind == "Subtract":
            n = min(n, value)
        sign = {"Add": "+", "Subtract": "-", "Multiply by": "*"}[kind]
        result = {"+": value + n, "-": value - n, "*": value * n}[sign]
        words.append(f"{kind} {n}.")
        lines.append(f"{value} {sign} {n} = {result}")
        value = result
    return Exchange(" ".join([*words, "What is the result?"]), _solution(lines, value, ""))
