"""Ask for facts and explanations in English: who, when, what, why and how, over a few hundred topics."""

from __future__ import annotations

from random import Random

from hedgespec.zoo.smollm2.questions.phrases import capital, fill, words

_LISTS = {
    "country": words("""France|Japan|Brazil|Egypt|Canada|Kenya|Norway|India|Australia|Mexico|Turkey|Portugal|
        Vietnam|Poland|Argentina|Greece|Thailand|Peru|Morocco|Sweden|Ireland|Chile|Finland|Nigeria|Austria|Hungary|
        Cuba|Iceland|Ghana|Indonesia|Spain|Italy|Germany|South Korea|New Zealand|Denmark|Belgium|Colombia|Ethiopia|
        Pakistan|Switzerland|Ukraine|Romania|Malaysia|Nepal|Jordan"""),
    "science": words("""photosynthesis|gravity|black holes|plate tectonics|evolution|DNA|the water cycle|magnetism|
        atoms|electricity|the greenhouse effect|osmosis|friction|sound waves|radioactivity|the periodic table|
        enzymes|viruses|bacteria|natural selection|the speed of light|lightning|rainbows|volcanoes|earthquakes|
        tides|eclipses|the ozone layer|fossils|cell division|mitochondria|chemical bonds|acids and bases|catalysts|
        entropy|inertia|relativity|quantum mechanics|nuclear fusion|lasers|semiconductors|superconductors|the Big
        Bang|neutron stars|comets|the Milky Way|ocean currents|glaciers|hurricanes|erosion|pollination|food chains|
        ecosystems|symbiosis|hibernation|coral reefs|rainforests|biodiversity|stem cells|antibiotics|vaccines|genes|
        proteins|carbon dating|probability|prime numbers|calculus|pi|the Pythagorean theorem|statistics"""),
    "body": words("""the heart|the liver|the lungs|the kidneys|the brain|the skin|red blood cells|the immune system|
        muscles|bones|the stomach|the eye|the ear|the nervous system|hormones|insulin|vitamin C|vitamin D|iron|
        calcium|cholesterol|blood pressure|sleep|fever|allergies|migraine|diabetes|asthma|the common cold|stress|
        metabolism|digestion|dehydration|protein in food|sugar|caffeine"""),
    "history": words("""the French Revolution|the Roman Empire|World War I|World War II|the Cold War|the Industrial
        Revolution|the Renaissance|the Silk Road|the Black Death|the Great Depression|the fall of the Berlin Wall|
        the moon landing|the American Civil War|the Ottoman Empire|ancient Egypt|ancient Greece|the Vikings|the
        Magna Carta|the Inca Empire|the Ming dynasty|the Age of Exploration|the Enlightenment|the Russian
        Revolution|the Mongol Empire|the Crusades|the Aztecs|the Reformation|the Boston Tea Party|the Suez Canal|the
        Panama Canal|the Titanic|the Wright brothers' flight|the printing press|the steam engine|the United Nations|
        apartheid|the Meiji Restoration|the Battle of Waterloo"""),
    "person": words("""Marie Curie|Isaac Newton|Albert Einstein|Leonardo da Vinci|Cleopatra|Julius Caesar|Napoleon|
        Nelson Mandela|Mahatma Gandhi|Charles Darwin|Galileo Galilei|Ada Lovelace|Alan Turing|Nikola Tesla|Mozart|
        Beethoven|William Shakespeare|Jane Austen|Frida Kahlo|Vincent van Gogh|Pablo Picasso|Abraham Lincoln|Queen
        Victoria|Joan of Arc|Marco Polo|Florence Nightingale|Louis Pasteur|Johannes Gutenberg|Socrates|Aristotle|
        Confucius|Genghis Khan|Martin Luther King|Rosa Parks|Neil Armstrong|Charles Dickens|Leo Tolstoy|Homer|
        Archimedes|Rosalind Franklin"""),
    "thing": words("""the telephone|the light bulb|penicillin|the airplane|the World Wide Web|the bicycle|the
        camera|the microscope|the telescope|dynamite|the radio|the compass|paper|the steam locomotive|the battery|
        the transistor|the refrigerator|the thermometer|the Mona Lisa|Hamlet|the theory of evolution|the Eiffel
        Tower|Don Quixote|the Odyssey"""),
    "money": words("""inflation|interest rates|the stock market|supply and demand|a recession|taxes|bonds|a
        mortgage|compound interest|a central bank|GDP|unemployment|free trade|tariffs|a monopoly|an exchange rate|
        insurance|a budget|credit scores|venture capital|a cooperative|globalization|cryptocurrency|crowdfunding|
        opportunity cost|pensions"""),
    "tech": words("""the internet|a search engine|machine learning|a neural network|encryption|cloud computing|a
        database|GPS|Wi-Fi|Bluetooth|an operating system|a compiler|blockchain|a firewall|open source software|a
        processor|solar panels|wind turbines|electric cars|3D printing|virtual reality|a touch screen|a QR code|a
        hard drive|computer memory|a web browser|spam filters|a virus scanner|fiber optic cables|a jet engine|a
        microwave oven|a heat pump|nuclear power|a smartphone camera|a large language model|a chatbot"""),
    "culture": words("""jazz|the Olympic Games|chess|Buddhism|Islam|Christianity|Hinduism|Judaism|yoga|opera|ballet|
        impressionism|cubism|Gothic architecture|the Nobel Prize|the World Cup|origami|sushi|haiku|flamenco|reggae|
        the Oscars|Halloween|the Chinese New Year|Ramadan|democracy|human rights|a constitution|the European Union|
        philosophy|stoicism|utilitarianism|mythology|a metaphor|irony|the alphabet|feminism|a jury"""),
    "howto": words("""boil an egg|change a flat tire|tie a tie|remove a red wine stain|plant tomatoes|write a
        resume|open a bank account|make pancakes|iron a shirt|clean a keyboard|set up a router|back up a phone|paint
        a wall|unclog a drain|prune roses|bake bread|make coffee without a machine|learn to swim|train a puppy|pack
        a suitcase|meditate|build a campfire|read a map|treat a burn|save energy at home|compost kitchen waste|
        create a strong password|prepare for an exam|take good photos|start a small business|make a paper airplane|
        sharpen a knife|store potatoes|wash a wool sweater|jump-start a car|play chess|solve a sudoku|negotiate a
        salary|sew on a button|cook rice|fix a dripping tap|choose a bicycle|stop hiccups|calm a crying baby|grow
        basil indoors"""),
    "pair": words("""a crocodile and an alligator|weather and climate|a virus and a bacterium|speed and velocity|
        mass and weight|a comet and an asteroid|a city and a town|butter and margarine|tea and coffee|baking soda
        and baking powder|RAM and storage|a simile and a metaphor|a frog and a toad|jam and jelly|a stock and a
        bond|England and the United Kingdom|mitosis and meiosis|an alloy and a compound|a college and a university|a
        novel and a short story|empathy and sympathy|a debit card and a credit card|latitude and longitude|a moth
        and a butterfly|a lake and a sea|an architect and an engineer|HTTP and HTTPS|a violin and a viola|a dolphin
        and a whale|fruit and vegetables|a fact and an opinion"""),
    "kind": words("""planets|oceans|large rivers in Europe|mammals that lay eggs|famous painters|string instruments|
        renewable energy sources|noble gases|Greek gods|dog breeds|high mountains|foods rich in protein|programming
        languages|team sports|spices|capital cities in Africa|deserts|islands in the Mediterranean|inventions of the
        19th century|healthy snacks|board games|famous bridges|birds that cannot fly|types of clouds|herbs for a
        kitchen garden|common metals|poisonous plants|languages spoken in India|science fiction novels|jobs in a
        hospital|endangered animals|classical composers|types of pasta|winter sports|trees with leaves that fall"""),
    "why": words("""is the sky blue|do leaves change color in autumn|is the sea salty|do cats purr|do we dream|does
        ice float|do we yawn|do birds migrate|does bread rise|do stars twinkle|do we have leap years|does the moon
        have phases|do onions make us cry|is the grass green|do bees make honey|does metal rust|do airplanes fly|do
        people speak different languages|do we need sleep|is exercise good for the heart|do prices rise|do some
        countries have a king|do mirrors reverse left and right|do dogs wag their tails|is Venus hotter than
        Mercury|do volcanoes erupt|do we get goosebumps|does hot air rise|do fish school|does soap clean|are deserts
        cold at night|do trees have rings|does time differ between countries|do owls hunt at night|is gold valuable|
        do magnets attract iron|do batteries run down|do we forget things"""),
    "riddle": words("""Anna is taller than Ben, and Ben is taller than Carl. Who is the shortest?|What has keys but
        opens no locks?|A farmer has a fox, a goose and corn and a small boat. How does he cross the river?|Which
        weighs more, a kilo of iron or a kilo of wool?|If today is Tuesday, which day is it in 10 days?|What comes
        once in a minute and twice in a moment?|A clock strikes six in five seconds. How long does it need for
        twelve?|What gets wetter the more it dries?"""),
    "topic": ("{science}", "{science}", "{body}", "{history}", "{money}", "{tech}", "{culture}"),
}  # fmt: skip
_FORMS = (
    ("What is the capital of {country}?", 2), ("Which languages are spoken in {country}?", 1),
    ("What is {country} famous for?", 2), ("What is the currency of {country}?", 1),
    ("Which countries border {country}?", 1), ("Describe the climate and geography of {country}.", 1),
    ("What should I see on a one-week trip to {country}?", 1),
    ("Name three traditional dishes from {country}.", 1), ("What is {topic}?", 4),
    ("Explain {topic} in simple terms.", 5), ("Explain {topic} to a ten-year-old.", 2),
    ("How does {tech} work?", 2), ("What does {body} do in the human body?", 2),
    ("Why is {body} important for health?", 2), ("What are the causes and effects of {science}?", 2),
    ("What caused {history}?", 2), ("Why does {history} still matter today?", 2),
    ("Tell me about {history} in five sentences.", 2), ("Who was {person}?", 3),
    ("What is {person} best known for?", 2), ("When and where was {person} born?", 1),
    ("Compare {person} and {person}.", 1), ("Who is behind {thing}, and when was it made?", 2),
    ("What are the advantages and disadvantages of {tech}?", 2), ("How does {money} affect ordinary people?", 2),
    ("Give an example of {money} from daily life.", 2),
    ("How do I {howto}?", 4), ("Give me step-by-step instructions to {howto}.", 3),
    ("What do I need to {howto}?", 1), ("What is the difference between {pair}?", 3),
    ("List {n} {kind}.", 3), ("Name {n} {kind} and say one thing about each.", 3), ("Why {why}?", 4),
    ("Explain briefly why this is so: why {why}?", 1), ("{riddle}", 1),
    ("{riddle} Explain your reasoning.", 1), ("What are three interesting facts about {topic}?", 3),
    ("What is the history of {culture}?", 2),
    ("Is it true that people often misunderstand {topic}? What are common myths?", 2),
    ("How are {science} and {science} related?", 2),
    ("What would happen without {science}?", 1), ("Give me a short quiz with {n} questions about {topic}.", 1),
    ("Define {topic} in one sentence.", 2),
    ("What are the symptoms and treatment of problems with {body}?", 1),
    ("Which {kind} should everyone know, and why?", 1),
)  # fmt: skip


def draw(rng: Random, split: str) -> str:
    """Make one message; the split plays no part."""
    form = rng.choices([text for text, _ in _FORMS], [weight for _, weight in _FORMS])[0]
    return capital(fill(rng, form, {**_LISTS, "n": ("three", "four", "five", "six", "ten")}))
