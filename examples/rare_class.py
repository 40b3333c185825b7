"""Find nearly all of the rarer class, and see what that costs: `rehead fit sample:sms --recall spam=0.99` in Python.

The threshold is chosen on the validation part; its price is measured on the test part, on which nothing was chosen.
"""

import rehead

wanted = rehead.DecisionConfig("recall", "spam", 0.99)
evaluation = rehead.fit("sample:sms", rehead.Classifier("tfidf"), decisions=wanted).evaluation

(spam,) = (measured for measured in evaluation.test.per_class if measured.label == "spam")
print(f"{spam.support} of {evaluation.test.n} test messages are spam")
print(f"the most probable label: finds {spam.recall:.1%}, and {spam.precision:.1%} of what it calls spam is")

threshold = evaluation.decisions.threshold.at
price = evaluation.decisions.test.threshold
print(f"from {threshold:.4f} on: finds {price.recall:.1%}, and {price.precision:.1%} of what it calls spam is")
print(f"good messages that are let through: {price.specificity:.1%}")
