"""Ask for writing: stories, letters, mails, essays, poems, speeches, dialogues, advice and role play."""

from __future__ import annotations

from random import Random

from hedgespec.zoo.smollm2.questions.phrases import capital, fill, words

_LISTS = {
    "who": words("""a lighthouse keeper|a retired detective|a young inventor|a lonely robot|a village baker|a street
        musician|a ship's cook|a brave mouse|two old friends|a night nurse|a clockmaker|a lost astronaut|a shy
        dragon|a taxi driver|a farmer's daughter|a librarian|a magician without magic|a marathon runner|a beekeeper|
        a painter who lost her sight|a time traveler|a talking cat|a war photographer|an exchange student|a mountain
        guide|a king without a country|three sisters|a chess champion|a mail carrier|a gardener"""),
    "event": words("""finds an old letter|misses the last train|discovers a hidden door|loses a bet|hears a voice in
        the fog|inherits a strange house|meets a stranger on a bridge|wakes up in another century|has to tell the
        truth for a day|receives a gift without a sender|gets lost in a forest|wins a contest by mistake|finds a map
        in a book|must cross the desert|adopts a wild animal|sees snow for the first time|hides a secret from a
        friend|repairs a broken machine|returns home after twenty years|is mistaken for someone famous|opens a small
        shop|saves a town from a flood|learns to fly|says goodbye|starts a garden on a roof"""),
    "subject": words("""friendship|autumn|the sea|first love|coffee|remote work|recycling|city life|music in
        childhood|sleep|the first day at school|climate change|social media|reading for pleasure|learning a
        language|public transport|home cooking|small towns|artificial intelligence in daily life|a healthy
        breakfast|space travel|pets and their owners|winter mornings|the value of failure|time management|traveling
        alone|volunteering|old photographs|saving money|a balanced life|rain|the night sky|gardening|sports and
        character|museums|kindness|video games|walking|bees|freedom|grandparents|a river|teamwork|hope|patience|slow
        travel|electric cars|handwriting|moving to a new city|the last day of summer|mountains|silence|bread|fashion
        and waste|honesty|libraries"""),
    "tone": words("""funny|serious|warm|mysterious|formal|cheerful|melancholic|simple|dramatic|persuasive|ironic|
        romantic|hopeful|scary|gentle|enthusiastic|calm|playful"""),
    "genre": words("""fairy tale|science fiction story|mystery|fable|ghost story|love story|adventure story|bedtime
        story|western|fantasy story|diary entry|historical story|thriller|comedy scene"""),
    "poem": words("poem|haiku|limerick|sonnet|free-verse poem|song|rhyming poem|lullaby|ode|short rap"),
    "length": words("""in three sentences|in one paragraph|in about 100 words|in about 200 words|in two paragraphs|
        in five sentences|with a surprising end|with dialogue|for children|in the first person|in the present tense|
        for adults|in the style of a letter"""),
    "person": words("""my boss|a customer|a colleague|my landlord|a teacher|my neighbor|a hiring manager|an old
        friend|my team|a supplier|the city council|my grandmother|a hotel|the editor of a newspaper|a new employee|
        my doctor's office|an investor"""),
    "matter": words("""ask for a day off|apologize for a late delivery|thank them for their help|invite them to a
        birthday party|complain about noise|decline an offer politely|ask for feedback|announce a change of
        schedule|ask for a refund|introduce myself|remind them of an unpaid invoice|propose a meeting next week|
        congratulate them on a success|explain a mistake|ask for a raise|cancel a reservation|recommend a former
        colleague|ask for more information|share good news|say farewell|offer my support|report a broken heater"""),
    "product": words("""a folding bicycle|handmade soap|a smart lamp|noise-cancelling headphones|a wooden toy train|
        organic tea|a hiking backpack|a language app|an electric kettle|a standing desk|a wool blanket|a travel mug|
        running shoes|a board game|a robot vacuum|a scented candle|a garden tool set|a cooking class|a mystery
        novel|a fountain pen|a solar charger|a dog bed"""),
    "occasion": words("""a wedding|a graduation|a retirement party|the opening of a library|a charity dinner|a team
        victory|a school assembly|a farewell|an award|a housewarming|a town festival|a product launch|a memorial|a
        conference"""),
    "place": words("""a busy market|an abandoned factory|a small harbor at dawn|a mountain hut in a storm|a train
        station at night|a garden after rain|an old bookshop|a desert at noon|a kitchen on Sunday|a city seen from a
        roof|a frozen lake|a jungle path|a classroom in summer|a carnival|an island village|a castle ruin|a space
        station|a quiet cafe"""),
    "problem": words("""stay motivated while studying|make friends in a new city|sleep better|speak in front of
        people|stop wasting time on my phone|deal with a difficult colleague|start running|save money as a student|
        get over a breakup|prepare for a job interview|keep a clean home|be more creative|handle stress at work|read
        more books|get along with my teenage son|choose a career|wake up early|learn to cook|work from home without
        losing focus|be more confident|plan a surprise party|argue less with my partner|remember names"""),
    "role": words("""a pirate captain|a travel guide in Rome|a medieval knight|a strict piano teacher|a friendly
        shopkeeper|a space explorer|a football coach|a detective in 1920s London|a wise old tree|a museum guide|a
        job interviewer|a news reporter|a famous chef|a philosopher|a fitness trainer|a gardener|an ancient Egyptian
        scribe|a waiter in Paris|a radio host|a polite butler|a therapist|a grumpy wizard"""),
    "start": words("""The door was open when I came home.|Nobody had seen the river so low.|It was the last ticket
        of the day.|She counted the steps again.|The phone rang at three in the morning.|On the table lay a key.|
        They said the island did not exist.|The old clock struck thirteen.|I never wanted to be a captain.|The
        letter smelled of smoke.|When the music stopped, he was alone.|Snow fell on the empty stadium.|My brother
        had always been good at hiding.|The machine spoke for the first time."""),
}  # fmt: skip
_FORMS = (
    ("Write a {genre} about {who} who {event}.", 4), ("Write a {tone} {genre} about {who}, {length}.", 4),
    ("Tell me a story in which {who} {event}.", 2),
    ("Write a {poem} about {subject}.", 3), ("Write a {tone} {poem} about {who}.", 2),
    ("Write an email to {person} to {matter}.", 4),
    ("Write a {tone} letter to {person}. I want to {matter}.", 3), ("Write a short essay about {subject}.", 3),
    ("Write a {tone} blog post about {subject}, {length}.", 4),
    ("Write a product description for {product}. The tone should be {tone}.", 3),
    ("Write a {tone} speech for {occasion}.", 2),
    ("Write a dialogue between {who} and {role} about {subject}.", 3), ("Describe {place} {length}.", 2),
    ("How can I {problem}? Give me some advice.", 3),
    ("Write five tips on how to {problem}.", 2), ("Pretend you are {role}. Tell me about {subject}.", 3),
    ("You are {role}. I ask you how to {problem}. What do you say?", 2),
    ("Continue the story: {start}", 1), ("Write a {genre} that begins with this sentence: \"{start}\"", 2),
    ("Give me three titles and a first paragraph for a {genre} about {subject}.", 1),
    ("Write an advertisement for {product} that mentions {subject}.", 1),
    ("Write a social media post about {product}, {tone} and short.", 2),
    ("Write a review of {product} by {who}.", 1),
    ("Write the opening of a novel set in {place}. The main character is {who}.", 2),
    ("Write a {tone} toast for {occasion} and mention {subject}.", 1),
    ("Make an outline of an article about {subject}.", 1),
    ("What are arguments for and against {subject} as a topic at school? Write a short opinion piece.", 1),
    ("Write a diary entry of {who} at {place}.", 2),
    ("Write a message to {person} to {matter}, {length}.", 2),
    ("Describe a character: {who}. Write about looks, habits and a secret.", 1),
    ("Rewrite this sentence in a {tone} way: {start}", 1), ("Write a scene in {place} where {who} {event}.", 3),
)  # fmt: skip


def draw(rng: Random, split: str) -> str:
    """Make one message; the split plays no part."""
    form = rng.choices([text for text, _ in _FORMS], [weight for _, weight in _FORMS])[0]
    return capital(fill(rng, form, _LISTS))
