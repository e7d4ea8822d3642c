"""Ask for calculations: word problems, fractions, percentages, units, averages, equations and number facts."""

from __future__ import annotations

from random import Random

from hedgespec.zoo.generators import arithmetic
from hedgespec.zoo.smollm2.questions.phrases import words

_FORMS = ("{}", "{}", "{} Solve step by step.", "{} Show your work.", "Solve this problem: {}",
    "{} Explain each step.",
          "Question: {}\nThink step by step, then give the answer.", "Help me with my homework. {}",
          "Please calculate: {}", "{} Give the answer and how you found it.")  # fmt: skip
_NAMES = words(
    "Lena|Marco|Priya|Tom|Aisha|Chen|Ruth|Diego|Hana|Oscar|Nina|Karl|Sofia|Ivan|Leila|Peter|Amara|Jonas|Mei|Luis"
)
_GOODS = words("rice|flour|paint|sand|coffee|honey|milk|olive oil|gravel|tea|sugar|soup|juice|wool|seed")
_PRICED = words(
    "a pair of shoes|a laptop|a bicycle|a winter coat|a desk|a tablet|a tent|a watch|a sofa|a printer|a drone|a piano"
)
_UNITS = (("kilometers", "meters", 1000), ("hours", "minutes", 60), ("meters", "centimeters", 100), ("kilograms",
    "grams", 1000),
          ("liters", "milliliters", 1000), ("days", "hours", 24), ("feet", "inches", 12), ("weeks", "days", 7),
          ("minutes", "seconds", 60),
          ("years", "months", 12), ("pounds", "ounces", 16), ("gallons", "quarts", 4), ("dozens",
          "pieces", 12))  # fmt: skip


def draw(rng: Random, split: str) -> str:
    """Make one message; the split plays no part."""
    if rng.random() < 0.45:
        question = rng.choice(arithmetic.document(rng.randrange(10_000_000))).question
    else:
        question = rng.choice(_KINDS)(rng)
    return rng.choice(_FORMS).format(question)


def _fraction(rng: Random) -> str:
    a, b, c, d = rng.randint(1, 9), rng.randint(2, 12), rng.randint(1, 9), rng.randint(2, 12)
    sign = rng.choice(("+", "-", "*", "/"))
    ask = rng.choice(("What is {}?", "Compute {} as a fraction in lowest terms.", "Simplify {}."))
    return ask.format(f"{a}/{b} {sign} {c}/{d}")


def _part(rng: Random) -> str:
    name, good, d = rng.choice(_NAMES), rng.choice(_GOODS), rng.choice((3, 4, 5, 6, 8))
    n, total = rng.randint(1, d - 1), d * rng.randint(2, 20)
    return f"{name} has {total} kg of {good} and uses {n}/{d} of it. How many kilograms of {good} are left?"


def _percent(rng: Random) -> str:
    p, n, thing = rng.choice((5, 10, 12, 15, 20, 25, 30, 40, 60, 75)), rng.randint(2, 60) * 20, rng.choice(_PRICED)
    return rng.choice((
        f"What is {p}% of {n}?",
        f"{rng.choice(_NAMES)} buys {thing} that costs {n} dollars with {p}% off. What is the final price?",
        f"The price of {thing} rises from {n} dollars by {p}%. What is the new price?",
        f"A town of {n * 10} people grows by {p}% in a year. How many people live there afterwards?",
        f"{n * p // 100} is what percent of {n}?",
        f"A restaurant bill is {n // 10} dollars. How much is a {p}% tip, and what is the total?",
    ))  # fmt: skip


def _unit(rng: Random) -> str:
    large, small, factor = rng.choice(_UNITS)
    n = rng.randint(2, 48)
    return rng.choice((
        f"Convert {n} {large} to {small}.",
        f"How many {small} are there in {n} {large}?",
        f"Convert {n * factor} {small} to {large}.",
        f"{rng.choice(_NAMES)} measured {n} {large} and {rng.randint(1, factor - 1)} {small}. "
        f"How many {small} is that in total?",
    ))  # fmt: skip


def _average(rng: Random) -> str:
    values = [rng.randint(3, 98) for _ in range(rng.randint(3, 7))]
    shown = ", ".join(map(str, values))
    name = rng.choice(_NAMES)
    return rng.choice((
        f"What is the average of {shown}?",
        f"{name} scored {shown} in {len(values)} tests. What is the mean score?",
        f"Find the mean, the median and the range of {shown}.",
        f"The temperatures of {len(values)} days were {shown} degrees. "
        f"How much warmer was the hottest day than the coldest?",
        f"Sort these numbers from small to large and give the median: {shown}.",
    ))  # fmt: skip


def _equation(rng: Random) -> str:
    a, x, b = rng.randint(2, 12), rng.randint(-9, 20), rng.randint(1, 40)
    c, v = rng.randint(1, a), rng.choice("xynt")
    return rng.choice((
        f"Solve for {v}: {a}{v} + {b} = {a * x + b}",
        f"Solve {a}{v} - {b} = {a * x - b}.",
        f"Find {v} if {a + c}{v} + {b} = {c}{v} + {a * x + b}.",
        f"I think of a number, multiply it by {a} and add {b}. The result is {a * x + b}. What is my number?",
        f"Solve the equation {a}({v} + {b}) = {a * (x + b)}.",
        f"If f({v}) = {a}{v}^2 - {b}, what is f({abs(x)})?",
        f"Solve the system {v} + z = {x + b} and {v} - z = {x - b}.",
    ))  # fmt: skip


def _shape(rng: Random) -> str:
    a, b, c = rng.randint(2, 30), rng.randint(2, 30), rng.randint(2, 15)
    return rng.choice((
        f"What is the area of a triangle with base {a} cm and height {b} cm?",
        f"A box is {a} cm long, {b} cm wide and {c} cm high. What is its volume?",
        f"What is the circumference of a circle with radius {a} cm? Use 3.14 for pi.",
        f"A rectangle has an area of {a * b} square meters and a length of {a} meters. What is its width?",
        f"The legs of a right triangle are {3 * c} and {4 * c}. How long is the hypotenuse?",
        f"How many tiles of {c} cm by {c} cm cover a floor of {a * c} cm by {b * c} cm?",
        f"A square has a perimeter of {4 * a} cm. What is its area?",
    ))  # fmt: skip


def _ratio(rng: Random) -> str:
    name, good, a, b, n = (
        rng.choice(_NAMES),
        rng.choice(_GOODS),
        rng.randint(2, 7),
        rng.randint(2, 9),
        rng.randint(2, 12),
    )
    return rng.choice((
        f"{a} kg of {good} cost {a * b} dollars. How much do {n} kg cost?",
        f"{name} and a friend share {(a + b) * n} dollars in the ratio {a}:{b}. How much does each get?",
        f"{a} workers need {b * n} days for a job. How many days do {a * n} workers need?",
        f"A recipe for {a} people needs {a * 50} g of {good}. How much is needed for {n} people?",
        f"A machine fills {a * 10} bottles in {b} minutes. How many bottles does it fill in {n} hours?",
    ))  # fmt: skip


def _time(rng: Random) -> str:
    name, h, m, d = rng.choice(_NAMES), rng.randint(6, 20), rng.randint(0, 11) * 5, rng.randint(2, 40) * 5
    return rng.choice((
        f"A train leaves at {h}:{m:02d} and travels for {d} minutes. When does it arrive?",
        f"{name} starts work at {h % 12 + 1}:{m:02d} and works for {d // 20 + 2} hours "
        f"with a break of {d % 60} minutes. When is {name} done?",
        f"{name} runs {d // 5} km at {rng.randint(4, 7)} minutes per kilometer. How long does the run take?",
        f"{name} is {d // 5 + 8} years old and a sister is half that age plus {h}. "
        f"What is the sum of their ages in {h} years?",
    ))  # fmt: skip


def _number(rng: Random) -> str:
    a, b, c = rng.randint(12, 99), rng.randint(12, 999), rng.randint(2, 30)
    return rng.choice((
        f"What is {a} * {b}?", f"What is {a} + {b} - {c}?", f"Compute {a * c} / {c}.", f"Compute ({a} + {b}) * {c}.",
        f"What is {b} - {c} * {a}?", f"Find the greatest common divisor of {a * c} and {b * c}.",
        f"What is the least common multiple of {a} and {c}?", f"Is {b} a prime number? Explain why.",
        f"Write {b} as a product of prime factors.", f"What is {c} squared plus {a}?", f"Round {b / 7:.4f} to "
        f"two decimals.",
        f"What are the next three numbers of the sequence {c}, {c + a}, {c + 2 * a}, {c + 3 * a}?",
        f"Write {b} in binary.", f"Divide {b} by {c} and give the quotient and the remainder.",
        f"What is the sum of the numbers from 1 to {a}?",
    ))  # fmt: skip


def _chance(rng: Random) -> str:
    a, b, name = rng.randint(2, 12), rng.randint(2, 12), rng.choice(_NAMES)
    return rng.choice((
        f"A bag holds {a} red and {b} blue balls. {name} draws one. What is the probability that it is red?",
        f"A bag holds {a} green and {b} yellow marbles. "
        f"What is the chance of drawing two green ones without putting back?",
        f"In how many ways can {name} choose {min(a, 3)} of {a + b} books?",
        f"{name} invests {a * 500} dollars at {b}% simple interest. How much is it after {a % 5 + 1} years?",
        f"{name} earns {a + 9} dollars per hour and works {b * 3} hours a week. How much is that in 4 weeks?",
    ))  # fmt: skip


_KINDS = (
    _fraction,
    _part,
    _percent,
    _percent,
    _unit,
    _average,
    _equation,
    _equation,
    _shape,
    _ratio,
    _time,
    _number,
    _number,
    _chance,
)
