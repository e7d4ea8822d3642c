"""Ask for JSON: facts extracted from a sentence, objects described in words, API answers, and calls of listed tools."""

from __future__ import annotations

import json
from random import Random

from hedgespec.zoo.generators import json_api
from hedgespec.zoo.smollm2.questions.phrases import fill, words

_LISTS = {
    "first": words("""Ada|Bruno|Carla|Dmitri|Elena|Farid|Gina|Hugo|Ines|Jamal|Keiko|Lars|Mona|Nadia|Oliver|Paula|
        Quinn|Ravi|Sara|Theo"""),
    "last": words("""Silva|Novak|Okafor|Jensen|Rossi|Tanaka|Moreau|Schmidt|Patel|Kowalski|Garcia|Hughes|Larsen|Ito|
        Weber|Diaz"""),
    "city": words("""Lisbon|Prague|Lagos|Aarhus|Milan|Osaka|Lyon|Hamburg|Mumbai|Krakow|Seville|Leeds|Bergen|Kyoto|
        Graz|Quito|Austin"""),
    "job": words("""nurse|software engineer|teacher|architect|chef|pilot|accountant|data analyst|electrician|
        journalist|pharmacist"""),
    "company": words("""Northwind|Bluebird Foods|Acme Tools|Solaris Energy|Greenleaf|Quantex|Harbor Bank|Pinewood
        Press|Zephyr Air"""),
    "product": words("""a blue backpack|a coffee machine|a pair of headphones|a desk lamp|a mountain bike|a rain
        jacket|a graphics card|a yoga mat|a toaster|a wool scarf|a garden hose|a smart watch"""),
    "day": words("Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"),
    "month": words("January|March|April|May|June|July|August|October|November"),
    "n": tuple(map(str, range(2, 60))), "date": tuple(f"{n} {{month}}" for n in range(1, 29)),
    "price": tuple(f"{n}.{c}" for n in (7, 12, 19, 34, 58, 99, 149, 240) for c in ("00", "50", "99")),
    "hour": tuple(f"{h}:{m}" for h in range(8, 21) for m in ("00", "15", "30")),
    "cuisine": words("Italian|Thai|Mexican|Indian|Greek|Japanese|Lebanese|Ethiopian"),
    "room": words("kitchen|bedroom|living room|office|garage|bathroom"),
    "lang": words("French|German|Spanish|Japanese|Arabic"),
    "thing": words("""a movie|a recipe|a user profile|a book|a weather report|a car|an invoice|a song playlist|a
        hotel booking|a blog post|a chemical element|a country|a football match|a job offer|a plant|a server
        configuration|a workout plan|a train ticket|a calendar event|a museum|a video game character|a shopping
        cart|a school timetable|a sensor reading|a support ticket|a restaurant menu|a planet|a house for sale|a quiz
        question|a bank transfer"""),
    "fields": words("""name, type and price|id, title and created_at|name, description and tags|title, date and
        location|id, owner and status|name, quantity and unit|title, author and rating|id, name, size and color|
        name, category, price and in_stock|start, end and duration|name, items and total|label, value and unit"""),
    "fact": (
        "{first} {last}, a {n}-year-old {job} from {city}, works at {company}.",
        "Meeting with {first} and {first} on {day}, {date} at {hour} in {city}.",
        "Order {n}{n}: {n} x {product} for {price} dollars each, shipped to {first} {last} in {city}.",
        "{company} opened an office in {city} in {month} with {n} employees, led by {first} {last}.",
        "The flight from {city} to {city} leaves on {day} at {hour} from gate {n} and costs {price} euros.",
        "{first} bought {product} for {price} dollars on {date} and paid by card.",
        "{first} {last} can be reached at {first}@example.com or by phone on 555-01{n}, and prefers {day}.",
        "In {city} it is {n} degrees today with rain until {hour}, and tomorrow will be sunny.",
        "The {cuisine} restaurant in {city} has {n} tables, opens at {hour} and is closed on {day}.",
        "Invoice {n}{n} from {company}: {price} dollars, due on {date}, contact {first} {last}.",
    ),
    "keys": words("""the fields you find|names, places and numbers|person, place and time|all entities with their
        type|key and value pairs|who, what, where and when"""),
}  # fmt: skip
_EXTRACT = (
    "Extract {keys} as JSON from: {fact}", "Turn this sentence into a JSON object: {fact}",
    "{fact}\n\nReturn the facts above as JSON.",
    "Read the text and answer only with valid JSON ({keys}).\n\nText: {fact}",
    "Parse these notes into a JSON array:\n- {fact}\n- {fact}",
    "Convert to JSON:\n{fact} {fact}", "Extract {keys} as JSON from this message:\n\n\"{fact}\"",
)  # fmt: skip
_MAKE = (
    "Return a JSON object that describes {thing}, with {fields}.", "Give me an example JSON document for {thing}.",
    "Write a JSON array with {n} entries, each {thing} with {fields}.",
    "Create a JSON schema for {thing} with the fields {fields}.",
    "Generate sample JSON data for {thing}. Use nested objects and at least one array.",
    "Show {thing} as JSON, then the same as YAML.",
    "Design the JSON response of a REST endpoint that returns {thing} with {fields}.",
    "What would {thing} look like in JSON?",
)  # fmt: skip
_TOOLS: tuple[tuple[str, dict[str, str], tuple[str, ...]], ...] = (
    ("get_weather", {"city": "string", "day": "string"}, ("What is the weather in {city} on {day}?",
    "Will it rain in {city} on {day}?")),
    ("create_event", {"title": "string", "day": "string",
    "time": "string"}, ("Put a dentist visit on {day} at {hour} in my calendar.",
     "Plan lunch with {first} on {day} at {hour}.")),
    ("send_email", {"to": "string", "subject": "string",
    "body": "string"}, ("Tell {first} by mail that I arrive in {city} on {day}.",
     "Write to {first} {last} that the invoice of {price} dollars is paid.")),
    ("search_flights", {"origin": "string", "destination": "string",
    "date": "string"}, ("Find a flight from {city} to {city} on {date}.",)),
    ("set_light", {"room": "string", "brightness": "integer"}, ("Dim the light in the {room} to {n} percent.",
    "Lights on in the {room}.")),
    ("convert_currency", {"amount": "number", "source": "string",
    "target": "string"}, ("How much is {price} euros in dollars?",)),
    ("find_restaurant", {"city": "string", "cuisine": "string",
    "guests": "integer"}, ("Book a {cuisine} place in {city} for {n} people.",)),
    ("play_music", {"artist": "string", "volume": "integer"}, ("Play something by {first} {last} at volume {n}.",)),
    ("translate", {"text": "string", "language": "string"}, ("How do you say \"see you on {day}\" in {lang}?",)),
    ("get_order", {"order_id": "integer"}, ("Where is my order {n}{n}?", "Has order {n}{n} been shipped yet?")),
    ("set_timer", {"minutes": "integer", "label": "string"}, ("Remind me in {n} minutes to call {first}.",)),
    ("query_database", {"table": "string", "filter": "string",
    "limit": "integer"}, ("Show {n} customers who live in {city}.",)),
)  # fmt: skip
_CALL = (
    "You can call these functions:\n{tools}\n\nRequest: {ask}\nAnswer with a JSON function call.",
    "Available tools:\n{tools}\n\n{ask}\n\nReply only with JSON: {{\"name\": ..., \"arguments\": {{...}}}}",
    "Choose the right tool and fill its arguments as JSON.\nTools: {tools}\nUser: {ask}",
)  # fmt: skip
_API = (
    "Act as a REST API and answer this request with JSON only:\n{ask}",
    "What JSON could a server return for this request?\n\n{ask}",
    "Write the HTTP response with a JSON body for: {ask}",
)  # fmt: skip
_EDIT = (
    "Explain this JSON document:\n{doc}", "Format this JSON with an indent of two spaces:\n{doc}",
    "List all keys of this JSON:\n{doc}",
    "Add a field \"source\" with the value \"web\" to this JSON and return the result:\n{doc}",
    "Convert this JSON to YAML:\n{doc}",
    "Write a JSON schema for this document:\n{doc}", "Remove the field \"id\" and return the new JSON:\n{doc}",
    "Make a second record like this one, with other values:\n{doc}",
    "Rename every key to camelCase and return the JSON:\n{doc}",
)  # fmt: skip


def draw(rng: Random, split: str) -> str:
    """Make one message; the split plays no part."""
    roll = rng.random()
    if roll < 0.28:
        return fill(rng, rng.choice(_EXTRACT), _LISTS)
    if roll < 0.45:
        return fill(rng, rng.choice(_MAKE), _LISTS)
    if roll < 0.72:
        return _call(rng)
    exchange = rng.choice(json_api.document(rng.randrange(10_000_000)))
    if roll < 0.82:
        return rng.choice(_API).format(ask=exchange.question)
    body = json.loads(exchange.answer.partition("\n")[2])
    return rng.choice(_EDIT).replace("{doc}", json.dumps(body, indent=rng.choice((2, None))))


def _call(rng: Random) -> str:
    chosen = rng.sample(_TOOLS, rng.randint(2, 4))
    tools = [{"name": name, "parameters": parameters} for name, parameters, _ in chosen]
    shown = json.dumps(tools) if rng.random() < 0.5 else "\n".join(map(json.dumps, tools))
    ask = fill(rng, rng.choice(rng.choice(chosen)[2]), _LISTS)
    return rng.choice(_CALL).format(tools=shown, ask=ask)
