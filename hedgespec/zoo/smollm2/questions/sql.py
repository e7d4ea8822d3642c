"""Ask for SQL: a random schema and a request in words, or a general question about the language."""

from __future__ import annotations

from random import Random

from hedgespec.zoo.generators import sql
from hedgespec.zoo.smollm2.questions.phrases import capital, fill, words

_FORMS = (
    "Given this schema:\n\n{schema}\n\nWrite a SQL query for this request: {ask}",
    "{schema}\n\n{ask}\nAnswer with one SQL query.",
    "I have the following tables:\n```sql\n{schema}\n```\n{ask} Give me the SQL.",
    "Write a SQL query. Schema:\n{schema}\nQuestion: {ask}",
    "Translate the question to SQL.\n\n{schema}\n\nQuestion: {ask}\nSQL:",
    "You are a SQL assistant. The database has these tables:\n{schema}\n\nUser request: {ask}",
    "Here is my SQLite database:\n\n{schema}\n\nHow do I write a query for this? {ask} Explain it briefly.",
    "{ask}\n\nUse this schema:\n{schema}",
)
_TWO = "Given the schema\n\n{schema}\n\nwrite one SQL query for each request:\n1. {ask}\n2. {other}"
_EXPLAIN = (
    "Explain what this SQL query does:\n```sql\n{query}\n```",
    "What does this query return?\n\n{query}",
    "Rewrite this query for PostgreSQL and explain each part:\n{query}",
    "Is there anything wrong with this query, and would an index help?\n{query}",
    "Describe in one sentence what this query answers: {query}",
)
_LISTS = {
    "thing": words("""a left join|an inner join|GROUP BY with HAVING|a window function|a common table expression|a
        correlated subquery|UNION ALL|a CASE expression|a foreign key|an index|a view|a trigger|a transaction|a
        unique constraint|COALESCE|EXISTS|a recursive query|ROW_NUMBER|a self join|a cross join|NULL in comparisons|
        LIKE with wildcards|DISTINCT|LIMIT and OFFSET|a primary key|normalisation|a stored procedure|INSERT with
        SELECT|UPDATE with a join|a materialized view"""),
    "about": words("""employees and departments|orders and customers|a school with students and courses|a library
        with books and loans|a hotel with rooms and bookings|a shop with products and categories|flights and
        passengers|a blog with posts and comments|songs, albums and artists|bank accounts and transfers|a clinic
        with doctors and patients|sensors and their readings|a football league|recipes and ingredients|tickets and
        support agents|a cinema with films and shows|a warehouse with shelves and parts|a gym with members and
        classes"""),
    "job": words("""finds duplicate rows|returns the second highest value|counts rows per month|computes a running
        total|finds rows without a match in the other table|ranks rows within each group|deletes old rows|returns
        the three newest rows of each group|calculates the share of each group in the total|pivots rows into
        columns|finds gaps in a list of ids|updates one table from another|lists the groups with more than ten rows|
        compares each row with the previous one"""),
    "general": (
        "Explain {thing} in SQL with an example about {about}.",
        "Write a SQL query that {job}. The database is about {about}.",
        "Design a database schema for {about}. Give the CREATE TABLE statements.",
        "When should I use {thing} in SQL? Show a short example with {about}.",
        "Write CREATE TABLE and INSERT statements with sample data for {about}.",
        "What are common mistakes with {thing} in SQL? Use {about} as the example.",
    ),
}  # fmt: skip


def draw(rng: Random, split: str) -> str:
    """Make one message; the split plays no part."""
    roll = rng.random()
    if roll < 0.12:
        return capital(fill(rng, "{general}", _LISTS))
    schema, pairs = sql.document(rng.randrange(10_000_000))
    first, second = rng.sample(pairs, 2)
    if roll < 0.22:
        return rng.choice(_EXPLAIN).format(query=first.answer)
    if roll < 0.3:
        return _TWO.format(schema=schema, ask=first.question, other=second.question)
    return rng.choice(_FORMS).format(schema=schema, ask=first.question)
