"""`rehead instruct` and `generate` from end to end on a tiny model."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import rehead
from rehead import Classifier, Writer
from rehead.instruction import finetuning
from rehead.instruction.conversations import Conversation, Message
from rehead.instruction.instruct import divided
from rehead.runtime.errors import ArtifactError, DataError, RheadError, SettingError
from tests.instruction.tiny_language_models import save_tiny_language_model

TEMPLATE = (
    "{% for message in messages %}<s> {{ message['content'] }}</s> {% endfor %}{% if add_generation_prompt %}<s> "
    "{% endif %}"
)
# A model can learn it: the answer is the request's last word.
WORDS = ["free", "prize", "call", "now", "meet", "noon", "lunch", "win", "cash", "home", "later", "ok"]
KEYS = (
    "model data base tune style max_length seed rows tokens recipe validation_losses best_epoch stopped before test "
    "samples gflops seconds tokens_a_second versions peak_rss_bytes report"
)
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def base(tmp_path: Path) -> str:
    return str(save_tiny_language_model(tmp_path / "base", "llama", template=TEMPLATE))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [{"prompt": f"the {a} {b}", "completion": b} for a in WORDS for b in WORDS]
    file = tmp_path / "echo.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


@pytest.mark.parametrize("tune", ["lora", "last-2", "full"])
def test_answers_are_learned_saved_and_loaded(tune: str, base: str, data: Path, tmp_path: Path) -> None:
    done = rehead.instruct(data, base, tune=tune, epochs=15, learning_rate=1e-2, output=tmp_path / "out")
    facts = done.to_json()
    assert facts["test"]["loss"] < 0.5 * facts["before"]["loss"]
    assert facts["test"]["exact_match"] > facts["before"]["exact_match"]
    assert facts["rows"] == {"read": 144, "used": 144, "train": 123, "validation": 7, "test": 14, "dropped": {}}
    assert facts["test"]["outside"] is not None  # twelve answers, each given again and again, are labels
    assert len(facts["samples"]) == 10
    assert " ".join(facts) == KEYS
    assert facts["test"].keys() == {"loss", "perplexity", "n", "exact_match", "rouge1", "rougeL", "outside"}
    assert facts["samples"][0].keys() == {"line", "request", "wanted", "before", "after"}
    assert facts["seconds"].keys() == {"training", "total"}
    assert facts["tokens"].keys() == {"train", "train_learned", "cut"}
    saved = json.loads((tmp_path / "out" / "rehead.json").read_text())
    of_the_run = {"model", "samples", "peak_rss_bytes", "report"}
    assert saved.keys() == {"format", "kind", "weights_sha256", "sha256", "files", *facts} - of_the_run
    assert all(saved[name] == facts[name] for name in saved.keys() & facts.keys())
    writer = Writer.load(tmp_path / "out")
    assert writer.generate("the free lunch") == done.writer.generate("the free lunch")
    # As Transformers alone has it.
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "the free lunch"}], add_generation_prompt=True, return_tensors="pt"
    )
    ids = prompt if isinstance(prompt, torch.Tensor) else prompt["input_ids"]
    written = theirs.generate(input_ids=ids, max_new_tokens=8, do_sample=False)
    answer = tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)
    assert answer == writer.generate("the free lunch", max_tokens=8)
    assert (tmp_path / "out" / "adapter").is_dir() is (tune == "lora")
    assert "<svg" not in (page := (tmp_path / "out" / "report.html").read_text())
    assert f"{facts['test']['loss']:.3f}" in page
    assert "text-generation" in (tmp_path / "out" / "README.md").read_text()


def test_adapters_are_what_peft_adds_to_the_published_model(base: str, data: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    rehead.instruct(data, base, tune="lora", epochs=2, learning_rate=1e-2, output=tmp_path / "out")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    published = AutoModelForCausalLM.from_pretrained(base)
    theirs = PeftModel.from_pretrained(published, tmp_path / "out" / "adapter").merge_and_unload().state_dict()
    for name, weight in merged.items():
        torch.testing.assert_close(weight, theirs[name], rtol=1e-4, atol=1e-5)


def test_interrupted_training_goes_on_to_the_same_weights(
    base: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {"base": base, "tune": "last-1", "epochs": 3, "learning_rate": 1e-2}
    rehead.instruct(data, **arguments, output=tmp_path / "whole")
    honest = finetuning.Answering.loss
    calls: list[int] = []

    def broken_off(self: finetuning.Answering, rows: torch.Tensor) -> torch.Tensor:
        calls.append(len(rows))
        if len(calls) == 20:  # in the second epoch
            raise KeyboardInterrupt
        return honest(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(finetuning.Answering, "loss", broken_off)
        with pytest.raises(KeyboardInterrupt, match="`resume=True`"):
            rehead.instruct(data, **arguments, output=tmp_path / "again")
    rehead.instruct(data, **arguments, output=tmp_path / "again", resume=True)
    whole, again = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "again"))
    assert whole == again


def test_requests_that_begin_alike_stay_together() -> None:
    def one(request: str, answer: str) -> Conversation:
        return Conversation((Message("user", request), Message("assistant", answer)), 1)

    given = [one(f"request {i // 2}", f"answer {i}") for i in range(60)]
    parts = divided(given, seed=0)
    requests = [{conversation.messages[0].content for conversation in part} for part in parts]
    assert sum(map(len, parts)) == 60
    assert not requests[0] & requests[2]
    assert not requests[0] & requests[1]
    assert not requests[1] & requests[2]
    with pytest.raises(DataError, match="too few"):
        divided(given[:2], seed=0)


def test_commands(base: str, data: Path, tmp_path: Path, in_process: Command) -> None:
    out = tmp_path / "out"
    code, printed, err = in_process("instruct", data, "--base", base, "--epochs", 1, "-o", out)
    assert code == 0, err
    assert "loss" in printed
    assert "perplexity" in printed
    code, printed, _ = in_process("instruct", data, "--base", base, "--epochs", 1, "-o", out, "--json")
    assert code == 0
    assert json.loads(printed)["test"]["n"] == 14
    code, told, _ = in_process("generate", out, "the free lunch", "--max-tokens", 4, "--json")
    assert code == 0
    code, streamed, _ = in_process("generate", out, "the free lunch", "--max-tokens", 4)
    assert code == 0
    assert streamed.strip() == json.loads(told)["answer"]
    code, _, err = in_process("generate", out, " ")
    assert (code, err) == (2, "rehead: the prompt is empty; give a request\n")


def test_sampling_is_repeatable_and_varies(base: str, data: Path) -> None:
    writer = rehead.instruct(data, base, epochs=1).writer
    drawn = {writer.generate("the", temperature=5.0, max_tokens=8, seed=seed) for seed in range(4)}
    assert len(drawn) > 1
    assert writer.generate("the", temperature=5.0, max_tokens=8, seed=1) in drawn
    with pytest.raises(RheadError, match="nothing to answer"):
        writer.generate([{"role": "assistant", "content": "ok"}])


def test_folders_are_not_taken_for_each_other(base: str, data: Path, tmp_path: Path) -> None:
    rehead.instruct(data, base, epochs=1, output=tmp_path / "writer")
    with pytest.raises(ArtifactError, match="is a language model, not a classifier; use rehead generate"):
        Classifier.load(tmp_path / "writer")
    with pytest.raises(ArtifactError, match="no language model of rehead's"):
        Writer.load(base)
    weights = tmp_path / "writer" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0\0")
    with pytest.raises(ArtifactError, match="SHA-256"):
        Writer.load(tmp_path / "writer")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tune": "head"}, "`tune='head'` has no meaning here"),
        ({"tune": "last-0"}, "`tune` must be"),
        ({"epochs": 0}, "`epochs` must be 1 or more"),
        ({"learning_rate": 0.0}, "`learning_rate` must be above 0"),
        ({"max_length": 1}, "`max_length` must be 2 or more"),
        ({"style": "haiku"}, "`style` must be one of"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    arguments: dict[str, object], message: str, base: str, data: Path
) -> None:
    with pytest.raises(SettingError, match=message):
        rehead.instruct(data, base, **arguments)


def test_what_does_not_fit_is_left_out_and_told(base: str, data: Path, tmp_path: Path) -> None:
    long = json.dumps({"prompt": "the " * 70, "completion": "free"})
    file = tmp_path / "long.jsonl"
    file.write_text(data.read_text() + "\n" + "\n".join(long.replace("the the", f"the {i}", 1) for i in range(20)))
    facts = rehead.instruct(file, base, epochs=1).to_json()
    assert facts["rows"]["dropped"] == {"whose answer does not fit (--max-length)": 20}
    assert facts["rows"]["used"] == 144 == sum(facts["rows"][part] for part in ("train", "validation", "test"))


def test_request_that_is_longer_than_the_model_takes_is_refused(base: str, data: Path) -> None:
    writer = rehead.instruct(data, base, epochs=1).writer
    with pytest.raises(SettingError, match="tokens, and the model takes 64; shorten it"):
        writer.generate("the " * 70)


def test_conversations_that_go_on_stay_with_their_beginning() -> None:
    turns = [Message("user" if i % 2 == 0 else "assistant", f"turn {i}") for i in range(6)]
    given = []
    for talk in range(30):
        own = [Message(turn.role, f"{turn.content} of {talk}") for turn in turns]
        given += [Conversation(tuple(own[:n]), 1) for n in (2, 4, 6)]
    parts = divided(given, seed=0)
    firsts = [{one.messages[0].content for one in part} for part in parts]
    assert not firsts[0] & (firsts[1] | firsts[2])
