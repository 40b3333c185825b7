"""What the command line shows a person: an evaluation, an audit, a plan, one line of a text."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from rehead.data.labels import EVEN


def evaluation(facts: dict[str, Any]) -> None:
    """Headline, what the baselines reach on the same texts, per-class table, confusion matrix."""
    console = Console(highlight=False, soft_wrap=True)
    test, overlap = facts["test"], facts["overlap"]
    low, high = test["accuracy_ci"]
    of_all = "of all labels of a text together, " if facts["multilabel"] else ""
    console.print(
        f"\n[bold]{test['accuracy']:.2%}[/bold] accuracy {of_all}on {test['n']:,} test {facts['what']}", end=""
    )
    console.print(f", 95 % interval {low:.2%} to {high:.2%}")
    if facts.get("folds"):
        values = [fold["accuracy"] for fold in facts["folds"]]
        console.print(f"by fold: {', '.join(f'{value:.2%}' for value in values)}")
    low, high = test["intervals"]["macro_f1"]
    micro = f"micro F1 {test['micro_f1']:.4f}, " if "micro_f1" in test else ""
    console.print(
        f"{micro}macro F1 {test['macro_f1']:.4f} ({low:.4f} to {high:.4f}), log loss {test['log_loss']:.4f}, "
        f"ECE {test['ece']:.4f}"
    )
    from rehead.evaluation.baselines import rivals, said_beside  # not needed to print answers

    if facts["baseline_factor"]:
        console.print(_capital(said_beside(facts["what"], facts["baseline_factor"])))
    if facts["comparison"]:
        console.print(f"[bold]{_capital(_told_of(facts))}[/bold]")

    table = Table(f"on the same test {facts['what']}", title_justify="left", box=None, pad_edge=False)
    columns: dict[str, Any] = {"": test | {"baselines": facts["baselines"]}}
    if overlap and overlap["test_without"]:
        columns[" without overlap"] = overlap["test_without"] | {"baselines": overlap["baselines_without"]}
    for suffix in columns:
        table.add_column(f"accuracy{suffix}", justify="right")
        table.add_column(f"macro F1{suffix}", justify="right")
    approaches: list[tuple[str, str | None]] = [("rehead", None)]
    if facts["baselines"]:
        others = rivals(facts["baselines"], facts["base"], multilabel=facts["multilabel"])
        approaches += [(name, key) for key, name in others.items()]
    for title, key in approaches:
        measured = [values["baselines"][key] if key else values for values in columns.values()]
        table.add_row(title, *(cell for m in measured for cell in (f"{m['accuracy']:.2%}", f"{m['macro_f1']:.4f}")))
    console.print(table)

    table = Table("class", box=None, pad_edge=False)
    for name in ("precision", "recall", "F1", f"test {facts['what']}"):
        table.add_column(name, justify="right")
    for row in test["per_class"]:
        shares = (f"{row[name]:.4f}" for name in ("precision", "recall", "f1"))
        table.add_row(_plain(row["label"]), *shares, f"{row['support']:,}")
    console.print()
    console.print(table)

    if "confusion" in test and len(facts["labels"]) <= 12:
        table = Table("true \\ predicted", box=None, pad_edge=False)
        for label in facts["labels"]:
            table.add_column(_plain(label), justify="right")
        for label, counts in zip(facts["labels"], test["confusion"], strict=True):
            table.add_row(_plain(label), *(f"{count:,}" for count in counts))
        console.print()
        console.print(table)
    _decisions(console, facts["decisions"])
    seconds = ", ".join(f"{stage} {value:.1f}" for stage, value in facts["seconds"].items())
    operations = f"{facts['flops'] / 1e12:.2f} TFLOP; " if facts["flops"] else ""
    console.print(f"\nseconds: {seconds}; {operations}{facts['peak_rss_bytes'] / 1e9:.2f} GB at most")
    if facts.get("peak_share"):
        console.print(
            f"trunk pass: {facts['gflops']:.0f} GFLOP/s, {facts['peak_share']:.0%} of this machine's matrix product"
        )


def _decisions(console: Console, told: dict[str, Any]) -> None:
    """What the rule comes to on the test texts, where there is one beside the most probable label."""
    test = told["test"]
    lines = []
    if "thresholds" in told:
        _thresholds(console, told)
        return
    if told["threshold"]:
        values = {
            name: "none" if test[name] is None else f"{test[name]:.2%}"
            for name in ("precision", "specificity", "recall")
        }
        lines.append(
            f"{_plain(test['label'])} from a probability of {told['threshold']['at']:.4f} on: precision "
            f"{values['precision']}, specificity {values['specificity']}, recall {values['recall']} on the test's"
        )
    if told["costs"]:
        lines.append(f"least expected cost: {test.get('cost', 0.0):.4f} a test text")
    if told["abstain_below"]:
        accuracy = "none" if test["accuracy"] is None else f"{test['accuracy']:.2%}"
        lines.append(
            f"no label below a probability of {told['abstain_below']:g}: {test['answered']:.2%} of the test texts get "
            f"one, {accuracy} of these are right"
        )
    if told["coverage"]:
        lines.append(
            f"sets of labels: {test['coverage']:.2%} of the test's hold the true one ({told['coverage']:.0%} were "
            f"wanted), of {test['set_size']:.2f} labels on average"
        )
    if lines:
        console.print()
        console.print("\n".join(lines))


def _thresholds(console: Console, told: dict[str, Any]) -> None:
    """Of a classifier whose texts may have several labels, those that are not at even odds."""
    moved = {name: at for name, at in told["thresholds"].items() if at != EVEN}
    if not moved:
        return
    test = told["test"]
    table = Table("class", box=None, pad_edge=False)
    table.add_column("from a probability of", justify="right")
    for name, at in moved.items():
        table.add_row(_plain(name), f"{at:.4f}")
    console.print()
    console.print(table)
    console.print(
        f"with these thresholds: accuracy {test['accuracy']:.2%}, micro F1 {test['micro_f1']:.4f}, "
        f"macro F1 {test['macro_f1']:.4f} on the test texts"
    )


def answer(prediction: dict[str, Any]) -> str:
    """A prediction in a line: label and probability; of several labels each its own."""
    probabilities = prediction["probabilities"]
    if "labels" in prediction:
        labels = prediction["labels"]
        return f"{';'.join(labels) or '-'}\t{';'.join(f'{probabilities[label]:.4f}' for label in labels) or '-'}"
    label = prediction["label"]
    certainty = probabilities[label] if label is not None else max(probabilities.values())
    return f"{'-' if label is None else label}\t{certainty:.4f}"


def _told_of(facts: dict[str, Any]) -> str:
    """Whether the language model is worth it, on the texts that it has not learned from, where there are others too."""
    without = (facts["overlap"] or {}).get("comparison_without")
    if without:
        return f"without the overlap: {without['verdict']}"
    verdict: str = facts["comparison"]["verdict"]
    return verdict


def _capital(line: str) -> str:
    return line[:1].upper() + line[1:]


_COLOURS = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def inspection(facts: dict[str, Any]) -> None:
    """Rows, classes, lengths, then each finding with its cure and examples."""
    console = Console(highlight=False, soft_wrap=True)
    rows = facts["rows"]
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in rows["dropped"].items())
    console.print(f"\n{rows['read']:,} rows, {rows['used']:,} of them used{f'; not: {dropped}' if dropped else ''}")
    table = Table("class", box=None, pad_edge=False)
    table.add_column("rows", justify="right")
    for name, count in list(facts["classes"].items())[:_LISTED_CLASSES]:
        table.add_row(_plain(name), f"{count:,}")
    if (more := len(facts["classes"]) - _LISTED_CLASSES) > 0:
        table.add_row(f"and {more:,} more", "")
    console.print()
    console.print(table)
    if (lengths := facts["lengths"]) is not None:
        table = Table(lengths["unit"], box=None, pad_edge=False)
        table.add_column("texts", justify="right")
        table.add_column("")
        most = max(lengths["histogram"].values())
        for end, count in lengths["histogram"].items():
            table.add_row(f"to {int(end):,}", f"{count:,}", "█" * round(30 * count / most))
        console.print()
        console.print(table)
    console.print()
    for finding in facts["findings"]:
        colour = _COLOURS[finding["grade"]]
        console.print(f"[{colour}]{finding['grade']}[/{colour}]: {finding['count']:,} {escape(finding['kind'])}")
        console.print(f"  {escape(finding['advice'])}")
        for example in finding["examples"]:
            told = ", ".join(f"{name} {value}" for name, value in example.items() if name != "text")
            console.print(f"  [dim]{escape(told)}{escape(': ' + example['text']) if 'text' in example else ''}[/dim]")
    if not facts["findings"]:
        console.print("nothing was found")


_LISTED_CLASSES = 20


def explanation(facts: dict[str, Any]) -> None:
    """The text with what speaks for the label in green and what speaks against it in red, then similar examples."""
    console = Console(highlight=False, soft_wrap=True)
    label = facts["label"]
    console.print(f"\n[bold]{_plain(label)}[/bold] {facts['probabilities'][label]:.4f}\n")
    told, at = Text(), 0
    for piece in facts["pieces"]:
        told.append(facts["text"][at : piece["start"]])
        told.append(facts["text"][piece["start"] : piece["end"]], _shade(piece["weight"]))
        at = piece["end"]
    console.print(told)
    has_ngrams = bool(facts["baseline_factor"])
    columns = ["weight", "n-grams", "word"] if has_ngrams else ["weight", "word"]
    table = Table(*columns, box=None, pad_edge=False, show_header=has_ngrams)
    for piece in sorted(facts["pieces"], key=lambda piece: -abs(piece["weight"]))[:_LISTED_WORDS]:
        of_ngrams = [f"{piece['ngrams']:+.2f}"] if has_ngrams else []
        table.add_row(f"{piece['weight']:+.2f}", *of_ngrams, _plain(piece["text"]))
    console.print()
    console.print(table)
    if facts["neighbours"]:
        table = Table("similarity", "row", "label", "text", box=None, pad_edge=False)
        for neighbour in facts["neighbours"]:
            cells = f"{neighbour['similarity']:.2f}", str(neighbour["row"]), _plain(neighbour["label"])
            table.add_row(*cells, _plain(neighbour["text"]))
        console.print()
        console.print(table)


_LISTED_WORDS = 8


def _shade(weight: float) -> str:
    """The more the log odds change, the stronger the colour."""
    size = abs(weight)
    if size < _FAINT:
        return ""
    colour = "green" if weight > 0 else "red"
    return f"bold {colour}" if size >= _STRONG else colour


_FAINT, _STRONG = 0.2, 1.0


# Columns of a terminal from which on intervals are shown in the table of approaches.
_WIDE = 100


def comparison(facts: dict[str, Any]) -> None:
    """The table of approaches, and what is recommended."""
    console = Console()
    table = Table(box=None, padding=(0, 2, 0, 0))
    columns = ["approach", "accuracy", "p", "seconds", "ms a text", "outside"]
    if wide := console.width >= _WIDE:
        columns.insert(2, "95 % interval")
    for name in columns:
        table.add_column(name, justify="left" if name == "approach" else "right", no_wrap=True)
    for row in facts["approaches"]:
        low, high = row["accuracy_ci"]
        cached = f" (+{row['cached_seconds']:.0f})" if row["cached_seconds"] >= 1 else ""
        table.add_row(
            Text(row["title"], style="bold" if row["name"] == facts["recommended"] else ""),
            f"{100 * row['accuracy']:.1f} %",
            *([f"{100 * low:.1f} to {100 * high:.1f}"] if wide else []),
            "" if row["p_value"] is None else f"{row['p_value']:.3f}",
            f"{row['seconds']:.0f}{cached}",
            f"{row['milliseconds']:.1f}",
            "" if row["outside"] is None else f"{100 * row['outside']:.0f} %",
        )
    console.print(table)
    for name, reason in facts["not_tried"].items():
        console.print(f"not tried: {name}: {reason}", markup=False, highlight=False)
    console.print()
    for i, sentence in enumerate(facts["reasons"]):
        console.print(sentence, style="bold" if i == 0 else "", markup=False, highlight=False)
    if facts.get("report"):
        console.print(f"report: {facts['report']}", markup=False, highlight=False)


def search(facts: dict[str, Any]) -> None:
    """The best trials of a search."""
    console = Console()
    finished = [trial for trial in facts["trials"] if trial["state"] == "complete"]
    console.print(f"{len(facts['trials'])} trials, {len(finished)} of them to their end; the best by validation loss:")
    for trial in sorted(finished, key=lambda trial: trial["validation_log_loss"])[:5]:
        settings = ", ".join(
            f"{name} {value:.2g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in trial["settings"].items()
        )
        console.print(f"  {trial['validation_log_loss']:.4f}  {settings}", markup=False, highlight=False)
    console.print()


def instruction(facts: dict[str, Any]) -> None:
    """What instruction fine-tuning came to."""
    console = Console()
    before, after = facts["before"], facts["test"]
    rows = facts["rows"]
    console.print(
        f"[bold]loss {before['loss']:.3f} → {after['loss']:.3f}[/bold] a token of {rows['test']:,} test answers, "
        f"perplexity {before['perplexity']:.2f} → {after['perplexity']:.2f}",
        highlight=False,
    )
    if after["n"]:
        exact, alike = ((100 * before[name], 100 * after[name]) for name in ("exact_match", "rougeL"))
        console.print(
            f"of {after['n']:,} answers {exact[0]:.1f} → {exact[1]:.1f} % are exactly as wanted, ROUGE-L "
            f"{alike[0]:.1f} → {alike[1]:.1f}",
            highlight=False,
        )
    if after["outside"] is not None:
        console.print(f"{100 * after['outside']:.1f} % of the answers are none of the labels", highlight=False)
    for sample in facts["samples"][:3]:
        console.print(f"\n  request  {shortened(sample['request'])}", markup=False, highlight=False)
        for name in ("wanted", "before", "after"):
            console.print(f"  {name:<8} {shortened(sample[name])}", markup=False, highlight=False)
    console.print(
        f"\ntrained in {facts['seconds']['training']:.0f} s ({facts['tokens_a_second']:,.0f} tokens a second), "
        f"epoch {facts['best_epoch']} kept",
        highlight=False,
    )
    if facts.get("report"):
        console.print(f"report: {facts['report']}", markup=False, highlight=False)


def label_study(facts: dict[str, Any]) -> None:
    """Labels that are probably wrong, and what more of them would bring."""
    console = Console(highlight=False, soft_wrap=True)
    if "suspected" in facts:
        console.print(f"\n{facts['suspected']:,} of {facts['examined']:,} labels are suspected to be wrong\n")
        table = Table("row", "label", "suggested", "margin", "text", box=None, pad_edge=False)
        for row in facts["most_suspicious"]:
            cells = (str(row["row"]), _plain(row["label"]), _plain(row["suggested"]), f"{row['margin']:.2f}")
            table.add_row(*cells, _plain(row["text"]))
        console.print(table)
    if curve := facts.get("learning_curve"):
        table = Table("labels", box=None, pad_edge=False)
        table.add_column("error", justify="right")
        for size, error in zip(curve["sizes"], curve["mean_errors"], strict=True):
            table.add_row(f"{size:,}", f"{error:.2%}")
        console.print()
        console.print(table)
        console.print(f"\n[bold]{_capital(curve['verdict'])}[/bold]")


def _plain(label: str) -> str:
    return escape(shortened(label))


def shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 100 else f"{line[:97]}..."


def plan(facts: dict[str, Any]) -> None:
    """What a fit would take."""
    console = Console(highlight=False, soft_wrap=True)
    operations = (facts["trunk_flops"] + facts["training_flops"]) / 1e12
    rows = facts["rows"]
    console.print(f"\n{rows['train']:,} training, {rows['validation']:,} validation, {rows['test']:,} test texts")
    console.print(
        f"{facts['tokens']:,} tokens; {operations:.1f} TFLOP, of which {facts['training_flops'] / 1e12:.1f} training"
    )
    console.print(f"about {facts['seconds']:.0f} seconds, {facts['peak_memory_bytes'] / 1e9:.1f} GB of memory", end="")
    console.print(f" and {facts['features_bytes'] / 1e6:.0f} MB of features on disk; nothing was trained")
