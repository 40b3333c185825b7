"""The audit: every finding has a planted case, and clean data have none."""

import numpy as np
import pytest

from rehead.data.audit import Finding, cut_off, examples_by_class, length_histogram, main_languages
from rehead.data.audit import audit as audit_of_texts
from rehead.data.duplicates import with_near
from rehead.data.examples import Dropped, Examples

SUBJECTS = ("the meeting", "our invoice", "a parcel", "your order", "the train", "my garden", "this recipe", "the game")
VERBS = ("starts", "arrives", "was late", "looks fine", "needs work", "got lost", "comes back", "went well")
PLACES = ("in Rome", "at the office", "near the river", "on the second floor", "behind the church", "by the sea")

WORDS = """people water number morning country mother house world family school paper music second late miss idea eat
second young list song leave body dog direct pose star wind question ship area half rock order fire south problem piece
told knew pass since top whole king space heard best hour better during hundred five remember step early hold west
ground interest reach fast verb sing listen six table travel less"""


def sentence(i: int) -> str:
    """Sentences that differ in most of their words."""
    generator = np.random.default_rng(i)
    parts = [generator.choice(part) for part in (SUBJECTS, VERBS, PLACES)]
    return " ".join([*parts, "and", *generator.choice(WORDS.split(), 8)])


def clean(n: int = 60, names: tuple[str, ...] = ("ham", "spam")) -> list[tuple[str, str]]:
    return [(sentence(i), names[i % len(names)]) for i in range(n)]


def examples_of(pairs: list[tuple[str, str]]) -> Examples:
    names = tuple(sorted({label for _, label in pairs}))
    labels = np.array([names.index(label) for _, label in pairs], dtype=np.int64)
    examples = Examples([text for text, _ in pairs], labels, names, np.arange(2, 2 + len(pairs)), "data.csv")
    return with_near(examples)[0]


def audit(examples: Examples, dropped: Dropped, test: Examples | None = None) -> list[Finding]:
    return audit_of_texts(examples, dropped, main_languages(examples.texts), test)


def found(pairs: list[tuple[str, str]], kind: str, dropped: Dropped | None = None) -> Finding:
    """The one finding of that kind."""
    return one(audit(examples_of(pairs), dropped or {}), kind)


def one(findings: list[Finding], kind: str) -> Finding:
    (only,) = [finding for finding in findings if finding.kind == kind]
    return only


def test_clean_data_have_no_findings() -> None:
    assert audit(examples_of(clean()), {}) == []


def test_rows_that_are_no_examples_are_found_with_their_lines() -> None:
    finding = found(clean(), "rows with no text", dropped={"no text": [7, 19]})
    assert (finding.grade, finding.count, finding.examples) == ("warning", 2, [{"row": 7}, {"row": 19}])


def test_same_text_with_two_labels_is_an_error() -> None:
    finding = found([*clean(), ("Free  money", "spam"), ("free money", "ham")], "contradicting labels")
    assert (finding.grade, finding.count) == ("error", 2)
    assert [example["row"] for example in finding.examples] == [62, 63]


def test_few_contradictions_among_many_are_a_warning() -> None:
    pairs = [*clean(400), ("free money", "spam"), ("free money", "ham")]
    assert found(pairs, "contradicting labels").grade == "warning"


def test_nearly_the_same_text_with_two_labels_is_found() -> None:
    long = sentence(1000)
    pairs = [*clean(), (f"{long} ok", "spam"), (f"{long} no", "ham")]
    assert found(pairs, "near duplicates with contradicting labels").count == 2


def test_duplicates_and_near_duplicates_are_told_apart() -> None:
    first = sentence(1000)
    pairs = [*clean(), (first, "ham"), (first.upper(), "ham"), (f"{first} ok", "ham")]
    assert found(pairs, "duplicates").examples[0]["row"] == 63
    assert found(pairs, "near duplicates").examples[0]["row"] == 64


def test_test_texts_among_the_training_texts_are_an_error() -> None:
    pairs = clean()
    tested = [pairs[3], (f"{pairs[5][0]} ok", "spam"), (sentence(999), "ham")]
    pool, test = with_near(examples_of(pairs), examples_of(tested))
    findings = audit(pool, {}, test)
    exact = one(findings, "test texts in the training data")
    near = one(findings, "test texts nearly in the training data")
    assert (exact.grade, exact.count, near.grade, near.count) == ("error", 1, "error", 1)


@pytest.mark.parametrize("other", ["Spam", "SPAM", "spam!", "s-pam"])
def test_spellings_of_one_label_are_an_error(other: str) -> None:
    finding = found([*clean(), *((sentence(i), other) for i in range(100, 115))], "labels spelled alike")
    assert (finding.grade, {example["label"] for example in finding.examples}) == ("error", {"spam", other})


def test_rare_label_that_is_nearly_a_frequent_one_is_a_warning() -> None:
    finding = found([*clean(names=("business", "sport")), (sentence(500), "busines")], "labels spelled alike")
    assert (finding.grade, finding.examples[0]) == ("warning", {"label": "business", "rows": 30})


def test_numbers_as_labels_are_not_spelled_alike() -> None:
    pairs = [*clean(names=("1", "10")), (sentence(500), "100")]
    assert not [finding for finding in audit(examples_of(pairs), {}) if finding.kind == "labels spelled alike"]


@pytest.mark.parametrize(
    ("first", "second", "alike"),
    [
        ("caf\u00e9", "cafe\u0301", True),
        ("1", "1.0", True),
        ("1", "01", True),
        ("e-mail", "email", True),
        ("\u2764\ufe0f", "\u2764", True),
        ("-1", "1", False),
        ("\U0001f355", "\U0001f363", False),
        ("C", "C++", False),
        ("C", "C#", False),
        ("A+", "A-", False),
        ("1.2", "12", False),
        ("v1.2", "v12", False),
        ("1-2", "12", False),
    ],
)
def test_unicode_forms_and_numbers_by_value_are_alike_and_signs_are_not(first: str, second: str, alike: bool) -> None:
    kinds = [
        finding.grade for finding in audit(examples_of(clean(names=(first, second))), {}) if "spelled" in finding.kind
    ]
    assert kinds == (["error"] if alike else [])


def test_texts_in_seven_languages_are_listed_up_to_five() -> None:
    sentences = [
        "The weather is very nice today and we are going to the park with our children",
        "Das Wetter ist heute sehr schön und wir gehen mit unseren Kindern in den Park",
        "Le temps est très beau aujourd'hui et nous allons au parc avec nos enfants",
        "El tiempo es muy bueno hoy y vamos al parque con nuestros hijos pequeños",
        "Сегодня очень хорошая погода, и мы идём в парк вместе с нашими детьми",
        "今日はとても天気が良いので、子供たちと一緒に公園へ行きます。楽しみです。",
        "اليوم الطقس جميل جدا ونحن ذاهبون إلى الحديقة مع أطفالنا الصغار",
    ]
    pairs = [(f"{text} {i}", "ab"[i % 2]) for i in range(20) for text in sentences]
    finding = found(pairs, "languages")
    assert finding.count == 7
    assert len(finding.examples) == 5


def test_class_with_few_examples_is_found() -> None:
    finding = found([*clean(), (sentence(500), "news"), (sentence(501), "news")], "classes with few examples")
    assert finding.examples == [{"label": "news", "rows": 2}]


def test_imbalance_is_noted() -> None:
    pairs = [(sentence(i), "ham") for i in range(200)] + [(sentence(i), "spam") for i in range(200, 212)]
    assert found(pairs, "imbalanced classes").grade == "note"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("word " * 30_000, "huge texts"),
        ("\x00\x01\x02\x7fELF binary", "binary texts"),
        ("I donâ€™t know", "wrongly decoded texts"),
        ("lost let\ufffders", "wrongly decoded texts"),
        ("a row that\nwas broken", "texts with line breaks"),
    ],
)
def test_odd_text_is_found(text: str, kind: str) -> None:
    finding = found([*clean(), (text, "ham")], kind)
    assert (finding.count, finding.examples[0]["row"]) == (1, 62)


def test_accents_and_other_scripts_are_not_wrongly_decoded() -> None:
    pairs = [*clean(), ("Größe, naïve café, £5 und 10 €", "ham"), ("日本語の文章です", "ham"), ("Ελληνικά", "ham")]
    assert not [finding for finding in audit(examples_of(pairs), {}) if finding.kind == "wrongly decoded texts"]


def test_texts_that_will_be_cut_off_are_counted_by_class() -> None:
    pairs = clean()
    used, lost = np.full(len(pairs), 10), np.zeros(len(pairs), dtype=np.int64)
    used[1], lost[1] = 20, 10  # spam
    (finding,) = cut_off(examples_of(pairs), used, lost)
    assert (finding.grade, finding.count) == ("warning", 1)
    assert finding.examples[0] == {"label": "spam", "tokens lost": "3.1%"}
    assert finding.examples[1]["row"] == 3


def test_languages_are_told() -> None:
    german = [(f"Der Zug nach {city} kam gestern leider wieder viel zu spät an", "ham") for city in ("Köln", "Bonn")]
    english = [(f"The train to {city} was unfortunately late again yesterday", "spam") for city in ("Leeds", "York")]
    finding = found([*german * 10, *english * 10], "languages")
    assert {example["language"] for example in finding.examples} == {"de", "en"}


def test_language_that_is_not_english_is_told_though_it_is_the_only_one() -> None:
    german = [(f"Der Zug nach {city} kam gestern viel zu spät an", city) for city in ("Köln", "Bonn")]
    assert found(german * 10, "languages").examples[0]["share"] == "100%"


@pytest.mark.parametrize(
    ("sign", "feature"),
    [
        ("see http://x.example/{}", "a web address"),
        ("write to a{}@mail.example", "an e-mail address"),
        ("call 0800 555 12{}", "a phone number"),
        ("prize {}", "the word 'prize'"),
    ],
)
def test_what_gives_the_label_away_is_found(sign: str, feature: str) -> None:
    pairs = [
        (f"{text} {sign.format(10 + i)}" if label == "spam" else text, label) for i, (text, label) in enumerate(clean())
    ]
    shortcuts = [finding for finding in audit(examples_of(pairs), {}) if finding.kind == "shortcut"]
    assert any(feature in finding.advice and finding.grade == "warning" for finding in shortcuts)


def test_what_stands_in_all_classes_alike_is_no_shortcut() -> None:
    pairs = [(f"{text} see http://x.example/{i}", label) for i, (text, label) in enumerate(clean())]
    assert audit(examples_of(pairs), {}) == []


def test_gravest_findings_come_first() -> None:
    pairs = [*clean(), ("free money", "spam"), ("free money", "ham"), (sentence(0), "ham")]
    grades = [finding.grade for finding in audit(examples_of(pairs), {"no label": [90]})]
    assert grades == sorted(grades, key=("error", "warning", "note").index)
    assert set(grades) == {"error", "warning", "note"}


def test_classes_are_counted_the_most_frequent_first() -> None:
    assert examples_by_class(examples_of([("a", "x"), ("b", "y"), ("c", "y")])) == {"y": 2, "x": 1}


def test_lengths_are_counted_by_powers_of_two() -> None:
    assert length_histogram(np.array([1, 2, 3, 4, 5, 8, 9])) == {"1": 1, "2": 1, "4": 2, "8": 2, "16": 1}
