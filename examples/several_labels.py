"""Learn texts that have any number of labels, each a decision for itself. The complaints are made up."""

import random

import rehead

SAYS = {
    "delivery": ["the parcel came two days late", "the courier never rang", "it was left with a neighbour"],
    "price": ["it costs twice as much as before", "the discount was not taken off", "I was charged twice"],
    "quality": ["a seam had torn after a week", "the colour washed out", "the handle broke off"],
}


def complaint(chance: random.Random) -> tuple[str, list[str]]:
    """Make up a complaint about one or two subjects."""
    labels = chance.sample(sorted(SAYS), k=chance.choice([1, 1, 2]))
    sentences = " and ".join(chance.choice(SAYS[label]) for label in labels)
    return f"Order {chance.randrange(10_000)}: {sentences}", labels


chance = random.Random(0)
texts, labels = zip(*(complaint(chance) for _ in range(400)), strict=True)
model = rehead.Classifier("tfidf").fit(texts[:300], labels[:300])
test = model.evaluate(texts[300:], labels[300:]).test
print(f"all labels right of {test.accuracy:.0%} of {test.n} complaints, {test.labels_a_text:.2f} labels each")

new = ["The courier was rude, and I was charged twice", "The zip broke off"]
for text, probabilities in zip(new, model.predict_proba(new), strict=True):
    print(text, *(f"{label} {p:.2f}" for label, p in zip(model.classes_, probabilities, strict=True)), sep="\n  ")
