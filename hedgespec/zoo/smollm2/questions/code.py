"""Ask for programs: functions, classes, scripts and explanations in several languages, and work on given functions."""

from __future__ import annotations

import ast
from functools import cache
from random import Random

from hedgespec.zoo.corpus import documents
from hedgespec.zoo.smollm2.questions.phrases import capital, fill, words

_LISTS = {
    "what": words("""reverses a string|checks whether a word is a palindrome|returns the n-th Fibonacci number|
        counts the words of a text|finds the largest value of a list|removes duplicates from a list|sorts a list of
        tuples by the second item|merges two sorted lists|checks whether a number is prime|computes the factorial of
        a number|flattens a nested list|counts the vowels of a string|converts Celsius to Fahrenheit|finds the
        longest word of a sentence|groups words by their first letter|rotates a list by k places|transposes a
        matrix|multiplies two matrices|checks whether brackets are balanced|converts a Roman numeral to an integer|
        finds the two numbers that add up to a target|reads a CSV file and returns the rows as dictionaries|writes a
        list of dictionaries to a JSON file|downloads a web page and returns its title|counts the lines of a file|
        finds all files with a given extension|renames files in a folder|validates an email address|generates a
        random password|computes the greatest common divisor|computes a running average|splits a list into chunks|
        finds the common items of two lists|inverts a dictionary|parses a date such as 2024-05-17|computes the
        number of days between two dates|formats a number with thousands separators|encodes a text with the Caesar
        cipher|runs a binary search|checks whether two strings are anagrams|computes the edit distance of two
        strings|finds the shortest path in a grid|performs a breadth-first search|detects a cycle in a linked list|
        reverses a linked list|computes the depth of a binary tree|inserts a value into a binary search tree|returns
        all permutations of a list|returns all subsets of a set|solves the knapsack problem|counts the islands of a
        grid|computes compound interest|converts a decimal number to binary|sums the digits of a number|checks
        whether a year is a leap year|prints a multiplication table|draws a triangle of stars|simulates rolling two
        dice|shuffles a deck of cards|scores a bowling game|plays rock, paper, scissors|counts how often each
        character occurs|capitalizes every word|removes punctuation from a text|replaces tabs by spaces|finds the
        median of numbers|computes the standard deviation|normalizes a list of numbers to the range 0 to 1|smooths a
        time series|retries a failing call three times|measures how long a call takes|caches its results|limits the
        rate of calls|logs its arguments|parses command-line options|reads an environment variable with a default|
        compares two version strings|truncates a text to a number of words|highlights a search term|converts
        snake_case to camelCase|compresses a string by run lengths|finds the missing number of 1 to n|moves all
        zeros to the end of a list|finds the majority element|computes the dot product|zips two lists into a
        dictionary|sends an email|resizes an image|hashes a password|checks the strength of a password|extracts all
        links from HTML|counts the weekdays between two dates|converts seconds to hours, minutes and seconds"""),
    "class": words("""a bank account|a stack|a queue|a linked list|a binary search tree|a least-recently-used cache|
        a priority queue|a graph|a matrix|a playing card and a deck|a shopping cart|a parking lot|a library with
        books and members|a temperature sensor|a vector in two dimensions|a fraction|a polynomial|a timer|a
        text-based menu|a to-do list|an inventory|a chess board|a student with grades|a simple tokenizer|a rate
        limiter|an event bus|a thread pool|a configuration loader|a state machine|a trie|a bloom filter|a ring
        buffer|a tic-tac-toe game|a contact book|a weather station|a vending machine"""),
    "with": words("""Add type hints.|Include a docstring.|Handle invalid input.|Do not use any library.|Include unit
        tests.|Explain how it works.|Keep it under 20 lines.|Use recursion.|Avoid recursion.|Give its time
        complexity.|Use only the standard library.|Show an example of its use.|Raise an exception for empty input.|
        Make it fast.|Comment each step.|Use a dictionary.|Write it in a functional style.|It must not change its
        input."""),
    "lang": words("JavaScript|Java|C|C++|Go|Rust|TypeScript|bash|Ruby|C#"),
    "script": words("""backs up a folder with the date in the name|deletes files older than 30 days|prints the five
        largest files|counts errors in a log file|renames all .jpeg files to .jpg|checks whether a web site is up|
        monitors free disk space|converts all images of a folder|kills a process by its port|creates a user|finds
        duplicate files|starts a server again when it stops|prints the ten most frequent words of a file|installs a
        list of packages|splits a large file|compares two folders"""),
    "page": words("""a login form|a responsive navigation bar|a counter with two buttons|a photo gallery|a to-do
        list|a countdown timer|a table that can be sorted|a dark mode switch|a contact form with validation|a
        digital clock|a pricing table|a search box with suggestions|a progress bar|a modal dialog|a quiz with three
        questions|a simple calculator"""),
    "concept": words("""recursion|list comprehensions|decorators|generators|closures|lambda functions|context
        managers|inheritance|abstract classes|interfaces|pointers|garbage collection|async and await|threads and
        processes|mutexes|deadlocks|hash tables|big O notation|dynamic programming|regular expressions|exceptions|
        unit tests|dependency injection|the singleton pattern|the observer pattern|the factory pattern|REST|
        promises|callbacks|virtual environments|git branches|git rebase|Docker containers|type hints|dataclasses|
        slicing|shallow and deep copies|mutable default arguments|static methods|memoization|tail calls|the call
        stack|binary trees|heaps|quick sort|merge sort|bubble sort|depth-first search|Dijkstra's algorithm|
        immutability|generics|iterators|operator overloading|environment variables|middleware|linked lists|bit
        masks|floating-point errors|SQL injection|JSON Web Tokens"""),
    "error": words("""IndexError: list index out of range|KeyError: 'name'|TypeError: 'NoneType' object is not
        subscriptable|NameError: name 'x' is not defined|ModuleNotFoundError: No module named 'requests'|
        RecursionError: maximum recursion depth exceeded|UnicodeDecodeError|ZeroDivisionError: division by zero|a
        segmentation fault in C|a NullPointerException in Java|undefined is not a function in JavaScript|ValueError:
        invalid literal for int()|AttributeError: 'list' object has no attribute 'split'|IndentationError:
        unexpected indent|a merge conflict in git|a CORS error in the browser"""),
}  # fmt: skip
_FORMS = (
    ("Write a Python function that {what}.", 6), ("Write a Python function that {what}. {with}", 7),
    ("Python code that {what}", 2),
    ("Implement a Python class for {class}. {with}", 4), ("Write a {lang} function that {what}.", 6),
    ("How do I write {lang} code that {what}?", 2),
    ("Implement {class} in {lang}.", 3), ("Write a bash script that {script}.", 2),
    ("Write a Python script that {script}. {with}", 2),
    ("Create {page} with HTML, CSS and JavaScript.", 2), ("Write a React component for {page}.", 1),
    ("Explain {concept} with a code example in Python.", 3),
    ("Explain {concept} with a short example in {lang}.", 2),
    ("What is the difference between {concept} and {concept}? Show code.", 1),
    ("I get this error: {error}. What does it mean and how do I fix it?", 1),
    ("Write pytest tests for a function that {what}.", 2),
    ("Write a program in {lang} and the same in Python that {what}.", 1),
    ("Complete this function:\n\n```python\ndef solve(data):\n    \"\"\"A function that {what}.\"\"\"\n```", 2),
    ("Give me two different ways to write a Python function that {what}, and compare them.", 2),
)  # fmt: skip
_GIVEN = (
    "Explain what this code does:\n```python\n{code}\n```",
    "Add docstrings and comments to this code:\n\n```python\n{code}\n```",
    "Write unit tests for this function:\n\n{code}",
    "Refactor this Python code and explain your changes:\n```python\n{code}\n```",
    "Is there a bug in this function?\n\n```python\n{code}\n```",
    "Translate this Python function to JavaScript:\n```python\n{code}\n```",
    "Add type hints to this function:\n```python\n{code}\n```",
    "{code}\n\nWhat does this function return? Answer briefly.",
    "Rewrite this function so that it is easier to read:\n\n{code}",
)  # fmt: skip
_CONTINUE = "Continue this Python code:\n```python\n{code}\n```"


def draw(rng: Random, split: str) -> str:
    """Make one message; a fifth of them quote a function of Python's own library, of the split's files."""
    if rng.random() < 0.2:
        code = rng.choice(_functions(split))
        if rng.random() < 0.2:
            lines = code.splitlines()
            return _CONTINUE.replace("{code}", "\n".join(lines[: max(2, len(lines) // 2)]))
        return rng.choice(_GIVEN).replace("{code}", code)
    form = rng.choices([text for text, _ in _FORMS], [weight for _, weight in _FORMS])[0]
    return capital(fill(rng, form, _LISTS))


@cache
def _functions(split: str) -> list[str]:
    """List functions of 4 to 20 lines from files of Python's library, whole and dedented."""
    found: dict[str, None] = {}
    for document in documents(
        "python", "train" if split == "train" else "test", seed=0, max_bytes=400_000 if split == "train" else 100_000
    ):
        try:
            tree = ast.parse(document.text)
        except (SyntaxError, ValueError):
            continue
        lines = document.text.splitlines()
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("test"):
                text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
                if 4 <= len(text.splitlines()) <= 20 and 100 <= len(text) <= 700:
                    found[text] = None
    return list(found) or ["def add(a, b):\n    total = a + b\n    return total"]
