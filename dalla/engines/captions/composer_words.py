"""The sentences the offline composer chooses from. Data only; the rules are in composer.py.

Slots: {place} "in a magical forest", {action} "drinking coffee", {Action} the same at the start of a
sentence, {Thing} "Silver moonlight" at the start, {thing} inside a sentence.
"""

from __future__ import annotations

#: Words of tone, mood and personality that call for a voice, English and German.
VOICE_WORDS: dict[str, tuple[str, ...]] = {
    "dreamy": (
        "dream", "mystic", "magic", "ethereal", "serene", "calm", "soft", "gentle", "spirit", "poetic", "quiet", "peace",
        "verträumt", "mystisch", "magisch", "ruhig", "sanft", "poetisch", "still", "zart",
    ),
    "playful": (
        "playful", "funny", "humor", "humour", "witty", "cheeky", "silly", "cheerful", "happy", "sunny", "bubbly", "joy", "quirky",
        "verspielt", "lustig", "frech", "fröhlich", "witzig", "heiter", "humorvoll",
    ),
    "bold": (
        "bold", "confident", "fierce", "strong", "rebel", "edgy", "sassy", "powerful", "daring", "glam", "fashion", "diva",
        "selbstbewusst", "mutig", "stark", "wild", "rebellisch", "glamourös", "kühn",
    ),
    "cosy": (
        "cosy", "cozy", "warm", "home", "kind", "caring", "friendly", "wholesome", "comfort", "nostalg", "romantic", "sweet",
        "gemütlich", "herzlich", "freundlich", "warmherzig", "romantisch", "liebevoll", "lieb",
    ),
    "adventurous": (
        "advent", "travel", "explor", "curious", "outdoor", "wander", "free", "nature", "energetic", "sport", "fitness", "active",
        "abenteuer", "neugierig", "reise", "entdeck", "sportlich", "aktiv", "natur",
    ),
    "dark": (
        "dark", "gothic", "goth", "melanchol", "moody", "noir", "brooding", "haunting", "mysterious", "cyberpunk", "sad", "vampire",
        "düster", "melancholisch", "geheimnisvoll", "dunkel", "traurig", "schwermütig",
    ),
    "clear": (
        "professional", "matter-of-fact", "neutral", "formal", "informative", "serious", "minimal", "elegant", "sober", "business", "expert", "analytic",
        "sachlich", "ernst", "seriös", "professionell", "schlicht", "nüchtern",
    ),
}  # fmt: skip

EMOJI: dict[str, tuple[str, ...]] = {
    "dreamy": ("✨", "🌙", "🌿", "🕊️"),
    "playful": ("😄", "🙃", "🎈", "☀️"),
    "bold": ("🔥", "⚡", "🖤", "💫"),
    "cosy": ("🤍", "☕", "🍂", "🌼"),
    "adventurous": ("🧭", "⛰️", "🌍", "🍃"),
    "dark": ("🌑", "🥀", "🕯️"),
    "clear": (),
    "plain": ("✨", "🤍", "📷"),
}

Frames = dict[str, tuple[str, ...]]

ENGLISH: dict[str, Frames] = {
    "dreamy": {
        "place": (
            "Lost track of the hours {place}.",
            "Somewhere {place}, time forgot about me.",
            "I left a wish {place} today.",
            "Half awake, half dreaming {place}.",
            "The day went soft {place}.",
            "Even the silence has something to say {place}.",
        ),
        "action": (
            "{Action}, and the world grows quiet.",
            "{Action}, as if the day had no edges.",
            "Some call it nothing. I call it {action}.",
        ),
        "thing": (
            "{Thing}, and a heart that listens.",
            "{Thing}. I could stay in this moment for years.",
            "All I saw today was {thing}, and it was enough.",
        ),
        "none": (
            "Some days feel like the page between two chapters.",
            "I followed a quiet thought, and it led me here.",
            "A little stillness, kept for you.",
            "Today I walked slower, just to hear what the day wanted.",
        ),
        "close": (
            "Breathe in. Stay a while.",
            "Where does your mind wander tonight?",
            "Keep a little wonder for yourself.",
            "What would you wish for?",
            "Soft hearts see further.",
            "Tell me the last dream you remember.",
        ),
    },
    "playful": {
        "place": (
            "Plot twist: I live {place} now.",
            "Caught having the time of my life {place}.",
            "Yes, I went there. {Place}, to be exact.",
            "Five more minutes {place}, please.",
            "My plans for today? Right here, {place}.",
        ),
        "action": (
            "Current status: {action}.",
            "{Action}. Somebody had to do it.",
            "Officially busy {action}, do not disturb.",
        ),
        "thing": (
            "{Thing} and zero regrets.",
            "Came for the snacks, stayed for this: {thing}.",
            "{Thing}. Ten out of ten, would do again.",
        ),
        "none": (
            "I had a caption ready and then I saw this picture and forgot it.",
            "Proof that I do leave my to-do list alone sometimes.",
            "Zero plans, excellent mood.",
            "Today's forecast: mostly me, with a chance of cake.",
        ),
        "close": (
            "Who's coming along next time?",
            "Tag the friend who would do this with you.",
            "Rate my day from one to ten.",
            "Send snacks.",
            "Your turn: what made you laugh today?",
            "No notes.",
        ),
    },
    "bold": {
        "place": (
            "I don't wait for the moment. I meet it {place}.",
            "Main character energy {place}.",
            "You will find me {place}, doing it my way.",
            "Took up all the space I wanted {place}.",
            "No permission needed {place}.",
        ),
        "action": (
            "{Action}, and not asking anyone first.",
            "{Action} like I mean it. Because I do.",
            "Watch me: {action}.",
        ),
        "thing": (
            "{Thing}. Make of it what you will.",
            "{Thing} and nerves of steel.",
            "Armour of the day: {thing}.",
        ),
        "none": (
            "I was never going to blend in.",
            "Same rules as always: mine.",
            "Confidence is just practice that nobody saw.",
            "Not sorry. Not even a little.",
        ),
        "close": (
            "Go and take up space.",
            "What are you done waiting for?",
            "Say it louder next time.",
            "Your move.",
            "Own it.",
            "Dare you to try.",
        ),
    },
    "cosy": {
        "place": (
            "A little corner of calm {place}.",
            "Everything I needed today was {place}.",
            "Slow hours {place}, the best kind.",
            "Made myself at home {place}.",
            "The warmest part of the day was {place}.",
        ),
        "action": (
            "{Action}, because small things count.",
            "Today's plan was simple: {action}.",
            "{Action} and thinking of you all.",
        ),
        "thing": (
            "{Thing}, and the day feels kinder.",
            "Little joys: {thing}.",
            "{Thing}. That is the whole post, and it makes me happy.",
        ),
        "none": (
            "Saving you a seat next to me.",
            "Today was gentle, and I am grateful.",
            "Small things, big heart.",
            "Nothing special, and that is what made it lovely.",
        ),
        "close": (
            "What was the small joy of your day?",
            "Sending you a warm hug.",
            "Tea or coffee?",
            "Be kind to yourself tonight.",
            "Stay a while, it is nice here.",
            "Who are you thinking of right now?",
        ),
    },
    "adventurous": {
        "place": (
            "The map ended, so I went on {place}.",
            "Today's detour ended {place}.",
            "Found my way {place}, and I would do it again tomorrow.",
            "No signal, all the freedom {place}.",
            "Out of breath and wide awake {place}.",
        ),
        "action": (
            "{Action}. The best decision of the week.",
            "{Action}, with no idea what comes next.",
            "Spent the day {action}, and I am not tired yet.",
        ),
        "thing": (
            "{Thing} along the way. Always look twice.",
            "{Thing}, and the road goes on.",
            "Worth every step: {thing}.",
        ),
        "none": (
            "Left early, came back with stories.",
            "I only turned back once, to take this picture.",
            "Curiosity is the only luggage I need.",
            "One more bend in the road, then another.",
        ),
        "close": (
            "Where should I go next?",
            "Pack light, look far.",
            "Which place is still on your list?",
            "See you further up the road.",
            "Go and find out.",
            "Would you have come along?",
        ),
    },
    "dark": {
        "place": (
            "After midnight, {place}.",
            "The shadows know my name {place}.",
            "I went looking for the dark and found myself {place}.",
            "Nothing is ever only what it seems {place}.",
            "The night keeps its secrets {place}.",
        ),
        "action": (
            "{Action} while the city forgets itself.",
            "{Action}, until the last light goes out.",
            "Nobody saw me {action}. Almost nobody.",
        ),
        "thing": (
            "{Thing}, and everything that is left unsaid.",
            "{Thing}. Some beauty prefers the dark.",
            "Remember this when the lights go out: {thing}.",
        ),
        "none": (
            "Some stories are only told in low light.",
            "I keep the quiet hours for myself.",
            "There is a door in every silence.",
            "Not lost. Just out of sight.",
        ),
        "close": (
            "What are you hiding?",
            "Do not look away.",
            "Some answers only come at night.",
            "Would you follow?",
            "Keep the secret.",
            "The rest you have to imagine.",
        ),
    },
    "clear": {
        "place": (
            "A moment of focus {place}.",
            "Today {place}.",
            "Some perspective, found {place}.",
            "Back to what matters {place}.",
        ),
        "action": ("{Action}. Nothing more, nothing less.", "Today: {action}.", "{Action}, one thing at a time."),
        "thing": ("{Thing}. Less is enough.", "A study in {thing}.", "{Thing}, seen properly for once."),
        "none": (
            "A clear head is the best tool.",
            "Good work begins with a quiet minute.",
            "One picture, one thought.",
            "Progress rarely looks loud.",
        ),
        "close": (
            "What are you working on this week?",
            "More soon.",
            "What do you think?",
            "Thank you for following along.",
            "Which detail do you notice first?",
            "Details make the difference.",
        ),
    },
    "plain": {
        "place": (
            "Today finds me {place}.",
            "A moment {place} that I wanted to share.",
            "Guess who spent the day {place}.",
            "There is nowhere I would rather be than {place}.",
            "Greetings from me, {place}.",
        ),
        "action": ("{Action}, one of my favourite things.", "Currently {action}.", "{Action} today, and loving it."),
        "thing": (
            "{Thing}. Had to share this one.",
            "Today's favourite: {thing}.",
            "{Thing}, and a good day all around.",
        ),
        "none": (
            "A new picture, straight from my day.",
            "Just a little hello from me.",
            "This one is a favourite of mine.",
            "I could not keep this one to myself.",
        ),
        "close": (
            "How is your day going?",
            "What do you see first?",
            "Tell me what you think.",
            "More to come.",
            "What would you call this picture?",
            "Thank you for being here.",
        ),
    },
}
#: Sentences about the story of these days; {title} is its title.
ENGLISH_STORY = (
    "Another page of “{title}”.",
    "“{title}” goes on, one day at a time.",
    "This belongs to “{title}”, and there is more to tell.",
    "Day by day, “{title}” takes shape.",
    "“{title}”: I am closer than yesterday.",
    "You know by now what this is about: “{title}”.",
)

GERMAN: dict[str, Frames] = {
    "dreamy": {
        "place": ("{Place} vergeht die Zeit anders.", "Irgendwo zwischen Traum und Tag, {place}.", "Ich habe heute einen Wunsch dagelassen, {place}.", "{Place} wird selbst die Stille gesprächig."),
        "thing": ("{Thing}, und das Herz wird leise.", "{Thing}. In diesem Augenblick könnte ich bleiben."),
        "none": ("Manche Tage sind wie die Seite zwischen zwei Kapiteln.", "Ich bin einem leisen Gedanken gefolgt, und er hat mich hierher geführt.", "Ein wenig Stille, für euch aufgehoben.", "Heute bin ich langsamer gegangen, um dem Tag zuzuhören."),
        "close": ("Atme ein. Bleib ein wenig.", "Wohin wandern deine Gedanken heute?", "Bewahr dir ein kleines Staunen.", "Was würdest du dir wünschen?", "Erzähl mir von deinem letzten Traum."),
    },
    "playful": {
        "place": ("Planänderung: Ich wohne jetzt {place}.", "Noch fünf Minuten {place}, bitte.", "Erwischt, und zwar {place}.", "{Place} und allerbester Laune."),
        "thing": ("{Thing} und keinerlei Reue.", "{Thing}. Zehn von zehn Punkten."),
        "none": ("Ich hatte einen klugen Text, dann habe ich das Bild gesehen und ihn vergessen.", "Keine Pläne, beste Laune.", "Der Beweis: Manchmal lasse ich die To-do-Liste liegen.", "Wetterbericht für heute: vor allem ich, später Kuchen."),
        "close": ("Wer kommt beim nächsten Mal mit?", "Bewertet meinen Tag von eins bis zehn.", "Markiert jemanden, der sofort dabei wäre.", "Worüber habt ihr heute gelacht?", "Schickt Snacks."),
    },
    "bold": {
        "place": ("Ich warte nicht auf den Moment, ich bin schon {place}.", "{Place}, und zwar auf meine Art.", "Niemanden gefragt, einfach gemacht: {place}."),
        "thing": ("{Thing}. Macht daraus, was ihr wollt.", "Rüstung des Tages: {thing}."),
        "none": ("Ich war nie dafür gemacht, unterzugehen.", "Es gelten wie immer meine Regeln.", "Mut ist nur Übung, die keiner gesehen hat.", "Kein bisschen leise."),
        "close": ("Nehmt euch den Platz.", "Worauf wartest du noch?", "Dein Zug.", "Trau dich.", "Beim nächsten Mal lauter."),
    },
    "cosy": {
        "place": ("Eine kleine Ecke Ruhe {place}.", "Alles, was ich heute gebraucht habe, war {place}.", "Langsame Stunden {place}, die besten.", "{Place} war es heute am wärmsten."),
        "thing": ("{Thing}, und der Tag wird freundlicher.", "Kleine Freuden: {thing}."),
        "none": ("Ich halte euch den Platz neben mir frei.", "Heute war sanft, und ich bin dankbar.", "Kleine Dinge, großes Herz.", "Nichts Besonderes, und genau das war schön."),
        "close": ("Was war heute deine kleine Freude?", "Fühl dich umarmt.", "Tee oder Kaffee?", "Sei heute gut zu dir.", "An wen denkst du gerade?"),
    },
    "adventurous": {
        "place": ("Der Umweg des Tages endete {place}.", "Kein Netz, alle Freiheit {place}.", "Außer Atem und hellwach {place}.", "Die Karte war zu Ende, also weiter: {place}."),
        "thing": ("{Thing} am Wegesrand. Immer zweimal hinsehen.", "Jeden Schritt wert: {thing}."),
        "none": ("Früh los, mit Geschichten zurück.", "Neugier ist das einzige Gepäck, das ich brauche.", "Noch eine Kurve, dann noch eine.", "Ich habe mich nur einmal umgedreht, für dieses Bild."),
        "close": ("Wohin soll ich als Nächstes?", "Wenig packen, weit schauen.", "Welcher Ort steht noch auf deiner Liste?", "Wärst du mitgekommen?", "Wir sehen uns ein Stück weiter."),
    },
    "dark": {
        "place": ("Nach Mitternacht, {place}.", "Die Schatten kennen meinen Namen, {place}.", "{Place} behält die Nacht ihre Geheimnisse."),
        "thing": ("{Thing}, und alles, was ungesagt bleibt.", "{Thing}. Manche Schönheit mag das Dunkel."),
        "none": ("Manche Geschichten erzählt man nur bei wenig Licht.", "Die stillen Stunden behalte ich für mich.", "In jeder Stille gibt es eine Tür.", "Nicht verloren. Nur außer Sicht."),
        "close": ("Was verbirgst du?", "Sieh nicht weg.", "Manche Antworten kommen nur nachts.", "Würdest du mitgehen?", "Den Rest müsst ihr euch denken."),
    },
    "clear": {
        "place": ("Heute {place}.", "Ein Moment Konzentration {place}.", "Zurück zum Wesentlichen, {place}."),
        "thing": ("{Thing}. Weniger genügt.", "{Thing}, einmal richtig angesehen."),
        "none": ("Ein klarer Kopf ist das beste Werkzeug.", "Gute Arbeit beginnt mit einer ruhigen Minute.", "Ein Bild, ein Gedanke.", "Fortschritt ist selten laut."),
        "close": ("Woran arbeitest du diese Woche?", "Bald mehr.", "Was meint ihr?", "Welches Detail fällt dir zuerst auf?", "Danke fürs Mitlesen."),
    },
    "plain": {
        "place": ("Heute findet ihr mich {place}.", "Ein Moment {place}, den ich teilen wollte.", "Ratet, wer den Tag {place} verbracht hat."),
        "thing": ("{Thing}. Das musste ich teilen.", "Mein Liebling des Tages: {thing}."),
        "none": ("Ein neues Bild, direkt aus meinem Tag.", "Nur ein kleines Hallo von mir.", "Dieses Bild mag ich besonders.", "Das konnte ich nicht für mich behalten."),
        "close": ("Wie ist dein Tag?", "Was siehst du zuerst?", "Sagt mir, was ihr denkt.", "Fortsetzung folgt.", "Wie würdest du dieses Bild nennen?"),
    },
}  # fmt: skip
GERMAN_STORY = (
    "Noch eine Seite von „{title}“.",
    "„{title}“ geht weiter, Tag für Tag.",
    "Das gehört zu „{title}“, und es gibt noch mehr zu erzählen.",
    "„{title}“: Ich bin näher dran als gestern.",
    "Tag für Tag nimmt „{title}“ Gestalt an.",
)

#: English words of prompts -> (German with its preposition, as a place; German as a thing; hashtag).
GERMAN_WORDS: dict[str, tuple[str, str, str]] = {
    "forest": ("im Wald", "Waldlicht", "wald"),
    "woods": ("im Wald", "Waldlicht", "wald"),
    "beach": ("am Strand", "Meeresrauschen", "strand"),
    "sea": ("am Meer", "Meeresrauschen", "meer"),
    "ocean": ("am Meer", "Meeresrauschen", "meer"),
    "lake": ("am See", "Stille über dem See", "see"),
    "river": ("am Fluss", "Wasserglitzern", "fluss"),
    "mountain": ("in den Bergen", "Bergluft", "berge"),
    "mountains": ("in den Bergen", "Bergluft", "berge"),
    "city": ("mitten in der Stadt", "Großstadtlichter", "stadt"),
    "street": ("auf der Straße", "Straßenlichter", "strassenszene"),
    "rooftop": ("über den Dächern", "Blick über die Dächer", "dächer"),
    "garden": ("im Garten", "Gartenluft", "garten"),
    "park": ("im Park", "Parkbank und Zeit", "park"),
    "cafe": ("im Café", "Kaffeeduft", "café"),
    "café": ("im Café", "Kaffeeduft", "café"),
    "coffee": ("beim Kaffee", "Kaffeeduft", "kaffee"),
    "kitchen": ("in der Küche", "Küchenduft", "küche"),
    "home": ("zu Hause", "Zuhause-Gefühl", "zuhause"),
    "bedroom": ("zu Hause", "Zuhause-Gefühl", "zuhause"),
    "library": ("zwischen Büchern", "Bücherstille", "bücher"),
    "books": ("zwischen Büchern", "Bücherstille", "bücher"),
    "gym": ("beim Training", "Muskelkater in Sicht", "training"),
    "studio": ("im Studio", "Studiolicht", "studio"),
    "castle": ("auf dem Schloss", "Schlossgeflüster", "schloss"),
    "desert": ("in der Wüste", "Wüstenwind", "wüste"),
    "meadow": ("auf der Wiese", "Wiesenduft", "wiese"),
    "field": ("auf dem Feld", "Felder bis zum Horizont", "felder"),
    "snow": ("im Schnee", "Schneeluft", "schnee"),
    "rain": ("im Regen", "Regentropfen", "regen"),
    "night": ("in der Nacht", "Nachtluft", "nacht"),
    "sunset": ("bei Sonnenuntergang", "Abendlicht", "sonnenuntergang"),
    "sunrise": ("bei Sonnenaufgang", "Morgenlicht", "sonnenaufgang"),
    "morning": ("am Morgen", "Morgenlicht", "morgen"),
    "evening": ("am Abend", "Abendlicht", "abend"),
    "moonlight": ("im Mondlicht", "Mondlicht", "mondlicht"),
    "stars": ("unter Sternen", "Sternenhimmel", "sterne"),
    "train": ("im Zug", "Fernweh", "reise"),
    "bridge": ("auf der Brücke", "Brückenblick", "brücke"),
    "market": ("auf dem Markt", "Marktfarben", "markt"),
    "museum": ("im Museum", "Kunst und Stille", "museum"),
    "concert": ("beim Konzert", "Musik im Bauch", "konzert"),
    "autumn": ("im Herbst", "Herbstlaub", "herbst"),
    "winter": ("im Winter", "Winterluft", "winter"),
    "spring": ("im Frühling", "Frühlingsluft", "frühling"),
    "summer": ("im Sommer", "Sommerluft", "sommer"),
    "flowers": ("zwischen Blumen", "Blütenduft", "blumen"),
}
