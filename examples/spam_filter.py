"""Fit a spam filter on real text messages, save it, and ask it about two new ones."""

import rehead

result = rehead.fit("sample:sms", rehead.Classifier("tfidf"), "spam-model")
print(result)

spam_filter = rehead.load("spam-model")
for message in ("You have WON a guaranteed £1000 prize! Call 09061701461 now", "Running late, see you at the station"):
    said = spam_filter.explain(message)
    print(f"{said.label} ({said.probabilities[said.label]:.1%}): {message}")
    # A weight is by how much the log odds of the answer fall when the word is left out.
    for piece in sorted(said.pieces, key=lambda piece: -piece.weight)[:3]:
        print(f"  {piece.weight:+.2f} {piece.text}")
