"""Write passages like those users paste: news, reports and encyclopaedia entries about invented places and people."""

from __future__ import annotations

from random import Random

from hedgespec.zoo.smollm2.questions.phrases import capital, fill, words

_LISTS = {
    "town": words("""Harlow Bay|Veldmoor|Santa Brisa|Kestrel Point|Norrhaven|Oakmere|Lindqvist|Port Amara|Tarnfield|
        Belcastro|Drumlin|Eskdale|Fairwater|Grunewick|Hollins Ferry|Isenburg|Juniper Falls|Karstholm|Lower Quinton|
        Marisol"""),
    "last": words("""Okonkwo|Lindgren|Marchetti|Haverford|Delacroix|Yamamoto|Petrov|Brennan|Castellano|Adeyemi|
        Thornbury|Vasquez|Holm|Kaplan|Rahman|Sorensen|Whitlock|Zielinski|Fontaine|Nakamura"""),
    "first": words("""Ingrid|Samuel|Teresa|Malik|Beatrice|Jonas|Amina|Gregory|Lucia|Henrik|Naomi|Pascal|Rita|Edmund|
        Yara|Colin|Sylvie|Arjun"""),
    "month": words("January|February|March|April|May|June|July|August|September|October|November|December"),
    "year": tuple(map(str, range(1987, 2024))), "old": tuple(map(str, range(1702, 1930))),
    "n": tuple(map(str, range(3, 60))), "date": tuple(f"{n} {{month}}" for n in range(1, 29)),

    "many": tuple(f"{n},{r}00" for n in range(1, 40) for r in (2, 4, 5, 8)), "pct": tuple(map(str, range(3, 78))),
    "money": tuple(f"{n} million" for n in (2, 3, 4.5, 6, 8, 11, 14, 19, 25, 32, 47, 60, 85, 120)),
    "work": words("""a new tram line|a flood barrier|a public swimming pool|a solar park|a cycle bridge|a children's
        hospital|an indoor market|a water treatment plant|a science museum|a wind farm|a football stadium|a night
        bus network|affordable flats|a concert hall"""),
    "group": words("""the residents' association|the chamber of commerce|the farmers' union|the teachers' council|
        the port authority|the local nature trust|the taxi drivers' guild|the regional health board|the youth
        parliament|the fishermen's cooperative"""),
    "worry": words("""the noise of the works|higher rents|the loss of parking spaces|the old trees along the road|
        rising costs|the safety of cyclists|the nesting birds near the site|the delay of earlier projects|the lack
        of staff"""),
    "gain": words("""shorter journeys|cleaner air|new jobs|lower energy bills|more visitors|better care for
        children|less flooding|a livelier center|more space for families|protection of the old town"""),
    "animal": words("""the grey-winged tern|the marsh otter|the spotted newt|the blue heath butterfly|the mountain
        hare|the river sturgeon|the cave bat|the red-crested owl"""),
    "food": words("""seeds and small insects|river fish and crabs|grass and young bark|nectar|beetles and worms|
        berries and roots|moths|shrimps"""),
    "threat": words("""the draining of wetlands|road traffic|warmer winters|pesticides|overfishing|the spread of
        cats|light pollution|new dams"""),
    "firm": words("""Brightwell Systems|Corvane Motors|Tidewater Foods|Lumen Textiles|Halden Robotics|Osprey Rail|
        Nordlys Paper|Verdant Labs|Quillon Games|Apex Ceramics"""),
    "goods": words("""electric vans|frozen vegetables|sports clothing|warehouse robots|sleeper trains|recycled
        paper|test kits|puzzle games|kitchen tiles|garden tools|hearing aids"""),
    "field": words("""sleep|memory|city noise|school meals|soil bacteria|screen time|bird song|urban heat|walking|
        bilingual children|bread wheat|air filters"""),
    "result": words("""slept almost an hour longer|remembered more words|reported less stress|needed fewer sick
        days|used a third less water|made fewer mistakes|recovered faster|produced a better harvest|felt safer on
        their way home|moved more during the day"""),
    "treat": words("""turned off all screens at nine|walked for half an hour a day|received a warm breakfast|worked
        in a quiet room|took a short nap after lunch|kept a diary|used the new filters|learned a poem each week|
        planted clover between the rows"""),
    "build": words("castle|lighthouse|abbey|bridge|observatory|town hall|mill|fortress|theater|canal lock"),
    "stone": words("granite|sandstone|red brick|limestone|oak and slate|basalt"),
    "event": words("a storm|a fire|an earthquake|a long siege|a flood|years of neglect"),
    "storm": words("a storm|a flood|a snowstorm|a tornado|heavy hail|a fire"),
    "use": words("a museum|a concert venue|a hostel|a library|a research station|a restaurant|an archive"),
    "sport": words("football|handball|rowing|ice hockey|cycling|volleyball|sailing|chess"),
    "day": words("Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"),
    "remark": words("""We have waited for this moment for years|It is too early to celebrate|The figures speak for
        themselves|Nobody should be left behind|We will look at every complaint|This is only the first step|I did
        not expect such a result|There is no other way"""),
}  # fmt: skip
_OPENINGS: dict[str, tuple[str, ...]] = {
    "project": (
        "The council of {town} voted on {day} to build {work} at a cost of {money} dollars. "
        "Construction is planned to start in {month} and to take {n} months.",
        "After {n} years of debate, {town} will get {work}. "
        "Mayor {first} {last} signed the contract, worth {money} dollars, on {date}.",
        "Plans for {work} in {town} have moved a step closer. "
        "The region will pay {pct} percent of the {money} dollars that it costs."),
    "company": (
        "{firm}, a maker of {goods} based in {town}, reported sales of {money} dollars for the last quarter, "
        "{pct} percent more than a year ago.",
        "{firm} will open a second factory for {goods} in {town} and hire {n}0 people by {month}, chief "
        "executive {first} {last} said on {day}.",
        "Shares of {firm} fell by {n} percent on {day} after the company said that it had recalled {many} {goods}."),
    "study": (
        "A study of {field} led by {first} {last} of the University of {town} followed {many} people over {n} months.",
        "Researchers in {town} have published new results on {field}. "
        "For {n} weeks they observed {many} volunteers in two groups.",
        "How does {field} change our lives? A team led by {first} {last} asked {many} households in {town} "
        "and nearby villages."),
    "animal": (
        "{animal} lives in the hills and wetlands around {town}. "
        "Adults weigh about {n}0 grams and live for up to {n} years.",
        "{animal} was first described in {old} by the naturalist {first} {last}. "
        "Today about {many} animals are left, most of them near {town}.",),
    "building": (
        "The {build} of {town} was built in {old} by {first} {last} from {stone}. "
        "It is {n} meters high and stands on a hill near the harbor.",
        "{town} is known for its {build}, which was finished in {old} after {n} years of work. "
        "The architect was {first} {last}.",),
    "sport": (
        "The {sport} team of {town} won the final on {day} in front of {many} spectators. "
        "Captain {first} {last} decided the game in the last minutes.",
        "{first} {last}, {n}, has ended a long career in {sport}. "
        "In {n} seasons for {town} the athlete won {n} titles.",),
    "weather": (
        "{storm} hit {town} on {day} night and left {many} homes without power. "
        "The fire service was called out {n} times.",
        "Heavy rain has closed the road between {town} and {elsewhere} for the third time since {month}. "
        "Repairs will cost {money} dollars.",),
}  # fmt: skip
_MORE: dict[str, tuple[str, ...]] = {
    "project": ("Supporters expect {gain} and {gain}.", "{group} warned about {worry}.",
        "A survey of {many} people found that {pct} percent are in favor.",
                "An earlier plan failed in {year} because of {worry}.",
                "The first stage will be ready in {month}, the rest {n} months later.",
                "Engineer {first} {last}, who leads the works, promised {gain}."),
    "company": ("The company employs {many} people in {n} countries.",
        "It was founded in {year} by {first} {last} in a garage in {elsewhere}.",
                "About {pct} percent of its {goods} are sold abroad.", "{group} criticized {worry}.",
                "For next year it expects growth of {n} percent.",
                "Its main rival, {rival}, plans to sell {goods} as well.",
                "It invested {money} dollars in research last year."),
    "study": ("One group {treat}, the other changed nothing.",
        "After that time, {pct} percent of the first group {result}.",
        "The effect was strongest among people over {n}.",
              "Critics note that only {pct} percent of the participants were women.",
              "The study cost {money} dollars and was paid for by {group}.",
              "A second trial with {many} people is planned for {month}.",
              "The authors, among them {first} {last}, ask for caution."),
    "animal": ("It feeds on {food} and hunts mostly at night.",
        "The female raises {n} young a year, usually in {month}.", "Its greatest threat is {threat}.",
               "Since {year} the species has been protected by law.",
               "A program in {town} has released {n} animals into the wild.",
               "Numbers fell by {pct} percent between {year} and last year.",
               "The trust, led by {first} {last}, also points to {threat}."),
    "building": ("In {old} it was damaged by {event} and rebuilt in {stone}.", "Since {year} it has housed {use}.",
        "About {many} people visit it every year.",
                 "Its restoration cost {money} dollars and took {n} years.",
                 "The tower has {n} steps and a bell cast in {old}.",
                 "A legend says that {first} {last} hid a treasure in its cellar.",
                 "Tickets cost {n} dollars, and it is closed on {day}."),
    "sport": ("The coach, {first} {last}, praised the defense.", "It was the first title since {year}.",
        "Tickets had been sold out for {n} days.",
              "The club has {many} members and a budget of {money} dollars.",
              "The next match takes place on {day} in {elsewhere}.",
              "A young player, {first} {last}, scored {n} points.",
              "About {pct} percent of the fans came from {town}."),
    "weather": ("Nobody was seriously hurt, but {n} people were taken to hospital.",
        "Mayor {first} {last} asked people to stay at home until {day}.",
                "Experts had warned of such an event in {year}.",
                "{group} has collected {many} dollars for those affected.",
                "Schools will stay closed for {n} days.", "The damage is put at {money} dollars.",
                "Insurance covers only {pct} percent of the losses."),
}  # fmt: skip
_CLOSING = (
    "For {first} {last}, {n}, the news came as a surprise: \"{remark}.\" Others in {town} share this view.",
    "{capgroup} has called a meeting on {day} to discuss {worry}.", "A report of {year} had already asked for {gain}.",
    "\"{remark},\" said {first} {last} of {group}.",
    "\"{remark},\" {first} {last} told reporters on {day}.", "A decision on the next steps is expected in {month}.",
            "More details will be published on {date}.", "{capgroup} did not want to comment.",
            "Similar reports have come from {elsewhere}, where {pct} percent of the people are affected.",
            "In {year} there was a similar case in {elsewhere}.",
            "{first} {last}, who has lived here for {n} years, sees it differently: \"{remark}.\"")  # fmt: skip

KINDS = tuple(_OPENINGS)
_FIXED = ("town", "firm", "goods", "field", "animal", "build", "stone", "sport")


def passage(rng: Random, kind: str) -> str:
    """Write a passage of about 80 to 200 words, about one place, firm or building: an opening, further "
    "facts in random order, voices and an outlook."""
    fixed = {name: (rng.choice(_LISTS[name]),) for name in _FIXED}
    lists = {**_LISTS, **fixed, "elsewhere": _LISTS["town"], "rival": _LISTS["firm"]}
    more, closing = _MORE[kind], rng.sample(_CLOSING, rng.randint(2, 6))
    parts = [rng.choice(_OPENINGS[kind]), *rng.sample(more, rng.randint(5, len(more))), *closing]
    sentences = [capital(fill(rng, part.replace("{capgroup}", "{group}"), lists)) for part in parts]
    cut = rng.randint(2, len(sentences) - 2)
    breaks = rng.choice((" ", "\n\n"))
    return " ".join(sentences[:cut]) + breaks + " ".join(sentences[cut:])
