"""256 words for codes and recovery phrases: one octet each, told apart by their first four letters.

The order is the meaning: this module must never change, or phrases that people have written down become others.
"""

from typing import Final

from zmesh.errors import TrustError

_LIST: Final = """
acorn actor adobe agent alarm album alibi alley almond alpine amber anchor angle ankle apple apron arcade arctic
arena armor arrow artist aspen atlas attic autumn avocado axis bacon badge bagel bakery ballet bamboo banana banjo
barrel basil basket beacon beaver bench berry bishop bison blanket blossom bonfire border bottle bracket breeze
brick bridge bronze bucket buffalo bundle butter cabin cactus camel candle canoe canvas canyon caramel carbon cargo
carpet carrot castle cedar cello cement chapel cherry chimney cider cinema circle citrus clarinet clover cobalt
coconut comet compass copper coral cotton cradle crater crayon cricket crystal cushion cypress dagger daisy dancer
denim desert diamond dolphin domino dragon drawer drum dune eagle easel echo eclipse elbow elephant ember emerald
engine enigma envoy fabric falcon feather fennel ferry fiddle finch flame flannel flute forest forge fossil fountain
freight frost funnel galaxy gallop garden garlic gazelle ginger giraffe glacier goblet gravel guitar hammer harbor
harvest hazel helmet heron hockey honey horizon hornet igloo indigo insect island ivory jacket jaguar jasmine jelly
jigsaw jungle juniper kayak kernel kettle kiosk kitten ladder lagoon lantern lemon leopard lilac lizard lobster
locket lotus lumber magnet mango maple marble marina meadow melon meteor mirror mitten mosaic muffin museum mustard
napkin nebula nectar needle nickel noodle nutmeg oasis oboe ocean olive onyx opera orbit orchid otter oyster paddle
palace panda papaya parade parrot pebble pelican pepper piano pigeon pillow pilot pirate planet plaza plum pocket
poem polar poncho poppy prairie puzzle quartz quiver rabbit radar raven ribbon river rocket saddle salmon silver
sparrow tulip velvet
"""
WORDS: Final = tuple(_LIST.split())
PREFIX: Final = 4  # letters that suffice
_VALUES: Final = {word[:PREFIX]: value for value, word in enumerate(WORDS)}


def spell(octets: bytes) -> list[str]:
    """Return one word for each octet."""
    return [WORDS[octet] for octet in octets]


def read_words(words: list[str]) -> bytes:
    """Return the octets that words stand for; four letters of each are enough.

    Raises:
        TrustError: One is none of the words; the text names its place and not the word, which is part of a secret.
    """
    octets = bytearray()
    for place, word in enumerate(words, 1):
        value = _VALUES.get(word.lower()[:PREFIX]) if word.isascii() else None
        if value is None or not WORDS[value].startswith(word.lower()):
            raise TrustError(f"word {place} is not one of the {len(WORDS)} that are used here: look at it again")
        octets.append(value)
    return bytes(octets)
