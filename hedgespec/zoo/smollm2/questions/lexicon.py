"""Hold sentence parts in English, German, French and Spanish, row by row: every part is right after any other."""

from __future__ import annotations

LANGUAGES = ("English", "German", "French", "Spanish")

Row = tuple[str, str, str, str]


def _rows(text: str) -> tuple[Row, ...]:
    rows = [tuple(part.strip() for part in line.split("|")) for line in text.strip().splitlines()]
    return tuple((a, b, c, d) for a, b, c, d in rows)


SUBJECTS = _rows("""
My brother | Mein Bruder | Mon frère | Mi hermano
The teacher | Die Lehrerin | L'institutrice | La maestra
Our neighbor | Unser Nachbar | Notre voisin | Nuestro vecino
The old man | Der alte Mann | Le vieil homme | El anciano
The young doctor | Die junge Ärztin | La jeune médecin | La joven doctora
Anna | Anna | Anna | Anna
Peter | Peter | Pierre | Pedro
The child | Das Kind | L'enfant | El niño
A friend of mine | Ein Freund von mir | Un ami à moi | Un amigo mío
The president | Der Präsident | Le président | El presidente
My grandmother | Meine Großmutter | Ma grand-mère | Mi abuela
The new student | Der neue Student | Le nouvel étudiant | El nuevo estudiante
The company | Die Firma | L'entreprise | La empresa
The baker | Der Bäcker | Le boulanger | El panadero
The woman from Berlin | Die Frau aus Berlin | La femme de Berlin | La mujer de Berlín
His sister | Seine Schwester | Sa sœur | Su hermana
""")
ACTIONS = _rows("""
reads a book | liest ein Buch | lit un livre | lee un libro
buys fresh bread | kauft frisches Brot | achète du pain frais | compra pan fresco
drinks a cup of coffee | trinkt eine Tasse Kaffee | boit une tasse de café | bebe una taza de café
writes a long letter | schreibt einen langen Brief | écrit une longue lettre | escribe una carta larga
is looking for the key | sucht den Schlüssel | cherche la clé | busca la llave
cooks soup | kocht Suppe | prépare une soupe | cocina sopa
repairs the bicycle | repariert das Fahrrad | répare le vélo | repara la bicicleta
sells flowers | verkauft Blumen | vend des fleurs | vende flores
plays the piano | spielt Klavier | joue du piano | toca el piano
listens to music | hört Musik | écoute de la musique | escucha música
waits for the train | wartet auf den Zug | attend le train | espera el tren
paints a picture | malt ein Bild | peint un tableau | pinta un cuadro
watches a film | sieht einen Film | regarde un film | ve una película
answers many questions | beantwortet viele Fragen | répond à beaucoup de questions | responde a muchas preguntas
learns a foreign language | lernt eine Fremdsprache | apprend une langue étrangère | aprende un idioma extranjero
visits the museum | besucht das Museum | visite le musée | visita el museo
helps the guests | hilft den Gästen | aide les invités | ayuda a los invitados
eats an apple | isst einen Apfel | mange une pomme | come una manzana
cleans the kitchen | putzt die Küche | nettoie la cuisine | limpia la cocina
opens the window | öffnet das Fenster | ouvre la fenêtre | abre la ventana
needs more time | braucht mehr Zeit | a besoin de plus de temps | necesita más tiempo
pays the bill | bezahlt die Rechnung | paie l'addition | paga la cuenta
tells a story | erzählt eine Geschichte | raconte une histoire | cuenta una historia
plans a journey | plant eine Reise | prépare un voyage | planea un viaje
""")
ENDS = _rows("""
in the garden | im Garten | dans le jardin | en el jardín
at home | zu Hause | à la maison | en casa
in the city | in der Stadt | en ville | en la ciudad
with a friend | mit einem Freund | avec un ami | con un amigo
on Sunday | am Sonntag | dimanche | el domingo
in the evening | am Abend | le soir | por la noche
because of the rain | wegen des Regens | à cause de la pluie | a causa de la lluvia
after work | nach der Arbeit | après le travail | después del trabajo
for the family | für die Familie | pour la famille | para la familia
at the station | am Bahnhof | à la gare | en la estación
without help | ohne Hilfe | sans aide | sin ayuda
in Paris | in Paris | à Paris | en París
before dinner | vor dem Abendessen | avant le dîner | antes de la cena
in winter | im Winter | en hiver | en invierno
near the river | in der Nähe des Flusses | près de la rivière | cerca del río
""")
CLAUSES = _rows("""
The weather is beautiful today. | Das Wetter ist heute schön. | Il fait beau aujourd'hui. | Hoy hace buen tiempo.
I do not know why. | Ich weiß nicht, warum. | Je ne sais pas pourquoi. | No sé por qué.
We are very happy about it. | Wir freuen uns sehr darüber. | Nous en sommes très heureux. | Estamos muy contentos por ello.
The shops close at eight. | Die Geschäfte schließen um acht. | Les magasins ferment à huit heures. | Las tiendas cierran a las ocho.
Everything was more expensive than last year. | Alles war teurer als letztes Jahr. | Tout était plus cher que l'an dernier. | Todo era más caro que el año pasado.
The children are already asleep. | Die Kinder schlafen schon. | Les enfants dorment déjà. | Los niños ya duermen.
That was not easy. | Das war nicht einfach. | Ce n'était pas facile. | No fue fácil.
Tomorrow we will go to the sea. | Morgen fahren wir ans Meer. | Demain, nous irons à la mer. | Mañana iremos al mar.
Nobody expected this result. | Niemand hat dieses Ergebnis erwartet. | Personne ne s'attendait à ce résultat. | Nadie esperaba este resultado.
The meeting starts at nine. | Die Sitzung beginnt um neun. | La réunion commence à neuf heures. | La reunión empieza a las nueve.
The bridge will be closed for two weeks. | Die Brücke wird zwei Wochen gesperrt. | Le pont sera fermé pendant deux semaines. | El puente estará cerrado dos semanas.
Many people use the bus every day. | Viele Menschen fahren jeden Tag mit dem Bus. | Beaucoup de gens prennent le bus chaque jour. | Mucha gente usa el autobús cada día.
The government wants to build new schools. | Die Regierung will neue Schulen bauen. | Le gouvernement veut construire de nouvelles écoles. | El gobierno quiere construir nuevas escuelas.
Last night there was a storm. | Letzte Nacht gab es ein Gewitter. | La nuit dernière, il y a eu un orage. | Anoche hubo una tormenta.
The team won the game. | Die Mannschaft gewann das Spiel. | L'équipe a gagné le match. | El equipo ganó el partido.
Prices have risen again. | Die Preise sind wieder gestiegen. | Les prix ont encore augmenté. | Los precios han vuelto a subir.
""")  # noqa: E501
QUESTIONS = _rows("""
Where is the station? | Wo ist der Bahnhof? | Où est la gare ? | ¿Dónde está la estación?
How much does it cost? | Wie viel kostet das? | Combien ça coûte ? | ¿Cuánto cuesta?
Can you help me? | Können Sie mir helfen? | Pouvez-vous m'aider ? | ¿Puede ayudarme?
When does the train leave? | Wann fährt der Zug ab? | Quand part le train ? | ¿Cuándo sale el tren?
I would like some tea. | Ich hätte gern einen Tee. | Je voudrais un thé. | Quisiera un té.
What is your name? | Wie heißen Sie? | Comment vous appelez-vous ? | ¿Cómo se llama usted?
Thank you for your help. | Danke für Ihre Hilfe. | Merci pour votre aide. | Gracias por su ayuda.
I am looking for my luggage. | Ich suche mein Gepäck. | Je cherche mes bagages. | Busco mi equipaje.
Do you speak English? | Sprechen Sie Englisch? | Parlez-vous anglais ? | ¿Habla usted inglés?
See you tomorrow. | Bis morgen. | À demain. | Hasta mañana.
I have a headache. | Ich habe Kopfschmerzen. | J'ai mal à la tête. | Me duele la cabeza.
Happy birthday! | Alles Gute zum Geburtstag! | Joyeux anniversaire ! | ¡Feliz cumpleaños!
""")
NOUNS = _rows("""
the house | das Haus | la maison | la casa
the tree | der Baum | l'arbre | el árbol
the bread | das Brot | le pain | el pan
the window | das Fenster | la fenêtre | la ventana
the water | das Wasser | l'eau | el agua
the street | die Straße | la rue | la calle
the morning | der Morgen | le matin | la mañana
the dog | der Hund | le chien | el perro
the school | die Schule | l'école | la escuela
the car | das Auto | la voiture | el coche
the chair | der Stuhl | la chaise | la silla
the spring | der Frühling | le printemps | la primavera
""")
