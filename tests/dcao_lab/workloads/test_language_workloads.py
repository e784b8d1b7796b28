import dataclasses
import itertools
import json
import math
import subprocess
import sys
from collections import Counter

import pyarrow
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dcao_lab.baselines import BASELINES, BuildRequest
from dcao_lab.config import RunConfig
from dcao_lab.errors import LabError
from dcao_lab.runs.runner import Outcome, RunPlace, load, run
from dcao_lab.runs.store import RunStore
from dcao_lab.runs.training import TrainingPlan, probe_cost, train
from dcao_lab.workloads import WORKLOADS, StartRequest
from dcao_lab.workloads.base import generator
from dcao_lab.workloads.data.bpe import encode_lines, read_tokenizer, read_tokens
from dcao_lab.workloads.data.corpora import PTB, WIKITEXT2, WIKITEXT2_RAW
from dcao_lab.workloads.data.textfiles import SPLITS, read_lines
from dcao_lab.workloads.data.words import line_words, read_words
from dcao_lab.workloads.full_size.wikitext2_gpt2 import GPT2, TokenWorkload, blocks
from dcao_lab.workloads.language_stream import Carry, mean_loss, stream_batches, stream_loss
from dcao_lab.workloads.language_workload import WordWorkload
from dcao_lab.workloads.networks.awd_lstm import AWDLSTM, LSTMShape, locked_dropout
from dcao_lab.workloads.networks.language_transformer import CONTEXT, TransformerModel
from helpers.lab_runs import minimize
from helpers.language_files import (
    file_text,
    ptb_lines,
    wikitext_lines,
    write_bpe,
    write_hub_wikitext,
    write_parquet,
    write_ptb,
    write_wikitext,
    write_wikitext_zip,
)

SMALL_WORD_WORKLOADS = ("wikitext2_small_lstm", "wikitext2_small_transformer")
WORD_WORKLOADS = (
    *("ptb_lstm", "ptb_transformer", "wikitext2_lstm", "wikitext2_transformer"),
    *SMALL_WORD_WORKLOADS,
)
LANGUAGE_WORKLOADS = (*WORD_WORKLOADS, "wikitext2_gpt2")
SMALL = LSTMShape(embedding=8, width=12)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Everything that the five workloads read, in one folder."""
    folder = tmp_path_factory.mktemp("language")
    write_ptb(folder / "ptb")
    write_wikitext(folder / "wikitext-2")
    write_wikitext(folder / "wikitext-2-raw", ending="raw")
    (folder / "gpt2").mkdir()
    write_bpe(folder / "gpt2")
    return folder


def small_lstm(length=10):
    return WordWorkload(
        info=dataclasses.replace(WORKLOADS["ptb_lstm"].info, batch_size=4),
        source=PTB,
        build=lambda num_words: AWDLSTM(num_words, SMALL),
        length=length,
        is_recurrent=True,
    )


# --- files -----------------------------------------------------------------------------------------------------------


def test_wikitext_files_its_archive_and_the_hub_s_parquet_files_give_the_same_lines(tmp_path):
    write_wikitext(tmp_path / "files")
    (tmp_path / "zip").mkdir()
    write_wikitext_zip(tmp_path / "zip" / "wikitext-2-v1.zip")
    write_hub_wikitext(tmp_path / "parquet" / "wikitext-2-v1")
    for split in SPLITS:
        for folder in ("files", "zip", "parquet"):
            assert read_lines(WIKITEXT2, split, tmp_path / folder) == wikitext_lines(split), (split, folder)


def test_ptb_files_and_parquet_files_in_a_folder_for_each_split_give_the_same_lines(tmp_path):
    write_ptb(tmp_path / "files" / "simple-examples" / "data")
    for split in SPLITS:
        half = len(ptb_lines(split)) // 2
        folder = tmp_path / "parquet" / "penn_treebank" / split
        write_parquet(folder / "0000.parquet", "sentence", ptb_lines(split)[:half])
        write_parquet(folder / "0001.parquet", "sentence", ptb_lines(split)[half:])
    for split in SPLITS:
        for folder in ("files", "parquet"):
            assert read_lines(PTB, split, tmp_path / folder) == ptb_lines(split), (split, folder)


def test_the_raw_and_the_preprocessed_wikitext_are_told_apart_in_one_folder(tmp_path):
    write_wikitext_zip(tmp_path / "wikitext-2-raw-v1.zip", inside="wikitext-2-raw", ending="raw")
    assert read_lines(WIKITEXT2_RAW, "test", tmp_path) == wikitext_lines("test")
    with pytest.raises(LabError, match=r"WikiText-2 \(wikitext-2-v1\) is missing"):
        read_lines(WIKITEXT2, "test", tmp_path)


@pytest.mark.parametrize("name", LANGUAGE_WORKLOADS)
def test_missing_data_is_one_sentence_that_says_what_where_and_how(name, tmp_path):
    with pytest.raises(LabError) as raised:
        WORKLOADS[name].start(StartRequest(seed=0, data_dir=tmp_path))
    title = "Penn Treebank" if name.startswith("ptb") else "WikiText-2"
    message = str(raised.value)
    assert message.startswith(title)
    assert "\n" not in message
    file = {"ptb": "ptb.train.txt", "wikitext2": "wiki.train"}[name.split("_")[0]]
    assert all(part in message for part in ("is missing", file, str(tmp_path), "--data-dir"))


def test_a_missing_vocabulary_of_gpt2_is_a_sentence(tmp_path):
    with pytest.raises(LabError, match=rf"neither vocab.json and merges.txt nor tokenizer.json are in {tmp_path}"):
        read_tokenizer(tmp_path)


def test_what_is_in_the_hub_s_cache_is_read_without_a_network(tmp_path, monkeypatch):
    import huggingface_hub

    write_parquet(tmp_path / "penn_treebank/test/0000.parquet", "sentence", ptb_lines("test"))
    asked = []

    def download(*, repo_id, filename, repo_type, revision, local_files_only=False):
        asked.append((repo_id, repo_type, revision, local_files_only))
        return str(tmp_path / filename)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert read_lines(PTB, "test", None) == ptb_lines("test")
    assert asked == [("ptb-text-only/ptb_text_only", "dataset", "refs/convert/parquet", True)]


def test_without_a_network_the_hub_is_asked_once_and_the_answer_is_a_sentence(monkeypatch):
    import huggingface_hub

    downloads = []

    def download(**request):
        downloads.append(request)
        raise FileNotFoundError("not in the cache")

    class Unreachable:
        def head(self, url, timeout):
            raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub.utils, "get_session", Unreachable)
    with pytest.raises(LabError, match=r"could not be downloaded \(ConnectionError\); put wikitext-2-v1.zip"):
        read_lines(WIKITEXT2, "train", None)
    assert len(downloads) == 1  # the look into the cache


@pytest.mark.parametrize("module", ["tokenizers", "transformers"])
def test_gpt2_without_the_extra_says_how_to_install_it(module, data_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)  # what Python does with it is what a missing module does
    with pytest.raises(LabError, match=rf"needs {module}, which is not installed; pip install '.\[data\]' in a clone"):
        WORKLOADS["wikitext2_gpt2"].start(StartRequest(seed=0, data_dir=data_dir))


def test_the_hub_without_the_extra_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        LabError, match=r"Penn Treebank from the hub needs huggingface_hub.*pip install .\.\[data\]. in a clone"
    ):
        read_lines(PTB, "train", None)


def broken_archive(folder):
    (folder / "wikitext-2-v1.zip").write_bytes(b"PK not really")


def archive_without_the_file(folder):
    write_wikitext_zip(folder / "wikitext-2-v1.zip", ending="other")


def parquet_without_text(folder):
    write_parquet(folder / "train.parquet", "image", ["x"])


def broken_parquet(folder):
    (folder / "train.parquet").write_bytes(b"not Parquet")


def empty_parquet(folder):
    write_parquet(folder / "train.parquet", "text", pyarrow.array([], pyarrow.string()))


def not_utf8(folder):
    (folder / "wiki.train.tokens").write_bytes(b"\xff\xfe\n")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (broken_archive, "not a zip file"),
        (archive_without_the_file, "there is no wiki.train.tokens in it"),
        (parquet_without_text, "it has columns image and none called text or sentence"),
        (broken_parquet, "[Pp]arquet"),
        (empty_parquet, "it has no lines"),
        (not_utf8, "utf-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(spoil, reason, tmp_path):
    spoil(tmp_path)
    with pytest.raises(LabError, match=rf"{tmp_path}.* cannot be read: .*{reason}.*; get the file again"):
        read_lines(WIKITEXT2, "train", tmp_path)


# --- words -----------------------------------------------------------------------------------------------------------


def test_words_are_counted_as_mikolov_does_with_an_end_at_every_line(data_dir):
    corpus = read_words(PTB, data_dir)
    words = [word for line in ptb_lines("train") for word in [*line.split(), "<eos>"]]
    by_number = {number: word for word, number in corpus.vocabulary.items()}
    assert [by_number[number] for number in corpus.streams["train"].tolist()] == words
    assert len(corpus.vocabulary) == len(set(words))
    # An empty line of WikiText is an <eos> too: that is how its 2 088 628 training words are counted.
    assert len(read_words(WIKITEXT2, data_dir).streams["test"]) == sum(
        len(line.split()) + 1 for line in wikitext_lines("test")
    )


def test_a_word_that_is_not_in_the_training_text_is_read_as_unknown(tmp_path):
    write_ptb(tmp_path)
    (tmp_path / "ptb.test.txt").write_text(" the zyzzyva said \n")
    corpus = read_words(PTB, tmp_path)
    numbers = [corpus.vocabulary[word] for word in ("the", "<unk>", "said", "<eos>")]
    assert corpus.streams["test"].tolist() == numbers


def test_raw_text_is_refused_by_the_word_models(tmp_path):
    for split in ("train", "valid", "test"):
        (tmp_path / f"ptb.{split}.txt").write_text(f" only {split} has this \n")
    with pytest.raises(LabError, match=r"must have <unk> for rare words.*no 'valid' either; use the preprocessed"):
        read_words(PTB, tmp_path)


# --- evaluation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
def test_a_uniform_model_has_the_perplexity_of_the_vocabulary_s_size(split, data_dir):
    problem = WORKLOADS["ptb_transformer"].start(StartRequest(seed=0, data_dir=data_dir))
    nn.init.zeros_(problem.model.head.weight)
    metrics = problem.evaluate(split)
    assert metrics["perplexity"] == pytest.approx(len(set(" ".join(ptb_lines("train")).split())) + 1, rel=1e-5)
    assert metrics["loss"] == pytest.approx(math.log(metrics["perplexity"]))


def test_a_model_of_word_frequencies_has_the_perplexity_of_their_entropy(data_dir):
    problem = WORKLOADS["ptb_transformer"].start(StartRequest(seed=0, data_dir=data_dir))
    vocabulary = read_words(PTB, data_dir).vocabulary
    counts = Counter(line_words(ptb_lines("train")))
    total = sum(counts.values())
    nn.init.zeros_(problem.model.head.weight)
    problem.model.head.bias.data = torch.tensor([math.log(counts[word] / total) for word in vocabulary])
    test = line_words(ptb_lines("test"))
    expected = math.prod((total / counts[word]) ** (1 / len(test)) for word in test)
    assert problem.evaluate("test")["perplexity"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("columns", [1, 3, 10])
@pytest.mark.parametrize("size", [1, 7, 30, 101])
def test_every_token_is_counted_once_after_the_token_before_it(size, columns):
    # A model that knows which token follows: token t + 1 after t, except that it gives token 5 only the odds of 1/3.
    def step(inputs, state):
        logits = torch.full((*inputs.shape, size + 1), -1e4)
        logits.scatter_(2, (inputs + 1).clamp(max=size).unsqueeze(2), 0.0)
        logits[inputs == 4] = torch.tensor([0.0 if token < 3 or token == 5 else -1e4 for token in range(size + 1)])
        return logits, state

    stream = torch.arange(1, size + 1)  # after a 0
    expected = math.log(4) / size if size >= 5 else 0.0
    assert mean_loss(step, stream, before=0, length=4, columns=columns) == pytest.approx(expected, abs=1e-6)


def test_the_state_is_carried_over_the_whole_text_as_in_one_long_pass():
    model = StartRequest(seed=0).built(lambda: AWDLSTM(20, SMALL)).double().eval()
    stream = torch.randint(20, (53,), generator=generator(0, 9))
    with torch.no_grad():
        logits, _ = model(torch.cat([torch.tensor([7]), stream[:-1]]).unsqueeze(0))
        expected = F.cross_entropy(logits[0], stream).item()
        assert mean_loss(model, stream, before=7, length=10, columns=1) == pytest.approx(expected, rel=1e-12)


def test_of_the_training_text_no_more_than_the_length_of_the_test_text_is_evaluated(data_dir):
    corpus = read_tokens(WIKITEXT2_RAW, data_dir)
    train, test = corpus.evaluated["train"], corpus.evaluated["test"]
    assert 0.8 * len(test.tokens) < len(train.tokens) <= len(test.tokens) < len(corpus.train)


# --- training batches ------------------------------------------------------------------------------------------------


def test_each_column_of_the_batches_is_a_piece_of_the_text_without_gaps():
    batches = stream_batches(torch.arange(100), batch_size=3, length=5, order=generator(0, 1))
    epoch = list(itertools.islice(batches, 5))
    inputs, targets = (torch.cat(parts, dim=1) for parts in list(zip(*epoch, strict=True))[:2])
    assert torch.equal(targets, inputs + 1)
    assert torch.equal(inputs - inputs[:, :1], torch.arange(25).expand(3, -1))
    assert torch.equal(inputs[:, 0] - inputs[0, 0], torch.tensor([0, 33, 66]))
    assert 0 <= int(inputs[0, 0]) < 5


def test_a_new_epoch_starts_in_a_fresh_state_at_the_beginning():
    batches = stream_batches(torch.arange(40), batch_size=2, length=5, order=generator(0, 1))
    starts = []
    for inputs, _, carry in itertools.islice(batches, 9):
        if int(inputs[0, 0]) < 5:
            starts.append(carry.start())
        carry.finish(((torch.ones(1), torch.ones(1)),))
    assert len(starts) >= 3
    assert set(starts) == {None}


@pytest.mark.parametrize("name", WORD_WORKLOADS)
def test_the_same_seed_gives_the_same_run_and_another_seed_other_weights_and_batches(name, data_dir):
    def start(seed):
        problem = WORKLOADS[name].start(StartRequest(seed=seed, data_dir=data_dir, batch_size=3))
        batches = [torch.stack(batch[:2]) for batch in itertools.islice(problem.batches, 25)]
        return torch.cat([p.flatten() for p in problem.model.parameters()]), torch.stack(batches)

    (weights, batches), again, other = start(0), start(0), start(1)
    assert all(map(torch.equal, (weights, batches), again))
    assert not any(map(torch.equal, (weights, batches), other))


def test_evaluating_a_batch_again_starts_from_the_same_state_and_does_not_move_the_next_batch(data_dir):
    def losses(evaluate_again):
        problem = small_lstm().start(StartRequest(seed=0, data_dir=data_dir))
        weights = {name: value.clone() for name, value in problem.model.state_dict().items()}
        for batch in itertools.islice(problem.batches, 3):
            torch.manual_seed(0)
            yield problem.loss(batch).item()
            if evaluate_again:
                torch.manual_seed(0)
                yield problem.loss(batch).item()
                nn.init.ones_(problem.model.words.weight)
                problem.loss(batch)
                problem.model.load_state_dict(weights)

    once = list(losses(evaluate_again=False))
    assert list(losses(evaluate_again=True)) == [loss for loss in once for _ in range(2)]


def test_the_state_that_the_first_evaluation_leaves_is_where_the_next_batch_starts(data_dir):
    problem = small_lstm().start(StartRequest(seed=0, data_dir=data_dir))
    problem.model.shape = dataclasses.replace(
        SMALL, word_dropout=0.0, input_dropout=0.0, hidden_dropout=0.0, output_dropout=0.0, weight_dropout=0.0
    )
    one, two = itertools.islice(problem.batches, 2)
    problem.loss(one)
    logits, _ = problem.model(torch.cat([one[0], two[0]], dim=1))
    expected = F.cross_entropy(logits[:, one[0].shape[1] :].flatten(0, 1), two[1].flatten())
    torch.testing.assert_close(problem.loss(two), expected)


def test_an_evaluation_in_eval_mode_leaves_no_state_behind():
    carry = Carry()
    model = AWDLSTM(20, SMALL).eval()
    stream_loss(model, (torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3, dtype=torch.long), carry))
    assert Carry(carry).start() is None


def test_a_state_that_is_not_finite_is_forgotten():
    carry = Carry()
    carry.finish(((torch.tensor([math.nan, 0.5]), torch.tensor([math.inf, -2.0])),))
    ((hidden, cell),) = Carry(carry).start()
    assert (hidden.tolist(), cell.tolist()) == ([0.0, 0.5], [0.0, -2.0])


@pytest.mark.parametrize("measure_every", [False, True], ids=["default", "spectrum"])
def test_probes_do_not_change_how_the_lstm_trains(measure_every, data_dir):
    weights = []
    for watch in (False, True):
        torch.manual_seed(0)
        problem = small_lstm().start(StartRequest(seed=0, data_dir=data_dir))
        request = BuildRequest(lr=1e-2, watch=watch, spectrum_every=10 if watch and measure_every else None)
        optimizer = BASELINES["adamw"].build(problem, request)
        *_, _ = train(problem, optimizer, TrainingPlan(num_steps=25, eval_every=25))
        weights.append([param.detach().clone() for param in problem.model.parameters()])
    assert probe_cost(optimizer) > 0
    for bare, watched in zip(*weights, strict=True):
        assert torch.equal(bare, watched)


@pytest.mark.parametrize("split", SPLITS)
def test_an_evaluation_may_be_of_the_first_words_of_a_split(split, data_dir):
    workload = dataclasses.replace(small_lstm(), num_evaluated=40)
    problem = workload.start(StartRequest(seed=0, data_dir=data_dir))
    corpus = read_words(PTB, data_dir)
    with torch.no_grad():
        problem.model.eval()
        expected = mean_loss(problem.model, corpus.streams[split][:40], corpus.end_of_line, workload.length)
        assert problem.evaluate(split)["loss"] == expected


@pytest.mark.parametrize(
    ("name", "number"),
    # a vector a word, decoder of width 200 with biases, 35 positions, two blocks of 4 + 2 matrices, 5 norms
    [
        ("wikitext2_small_transformer", 33_278 * 401 + 7_000 + 2 * (6 * 40_000 + 6 * 200) + 5 * 400),
        # shared vectors and a bias a word; in each of two layers 4 gates with 2 matrices and 2 biases
        ("wikitext2_small_lstm", 33_278 * 129 + 2 * 4 * (2 * 128 * 128 + 2 * 128)),
    ],
)
def test_the_small_networks_are_as_large_as_they_say(name, number):
    with torch.device("meta"):
        model = WORKLOADS[name].build(33_278)
    assert sum(param.numel() for param in model.parameters()) == number


# --- the LSTM --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_words", "published"), [(10_000, 24.2e6), (33_278, 33.6e6)], ids=["PTB", "WikiText-2"])
def test_the_awd_lstm_has_the_published_number_of_parameters(num_words, published):
    with torch.device("meta"):
        model = AWDLSTM(num_words, LSTMShape())
    assert sum(param.numel() for param in model.parameters()) == pytest.approx(published, rel=0.002)  # 3 digits printed


def test_word_vectors_and_decoder_are_one_parameter():
    model = AWDLSTM(20, SMALL).eval()
    assert [name for name, param in model.named_parameters() if 20 in param.shape] == ["decoder_bias", "words.weight"]
    before = model(torch.tensor([[3]]))[0]
    model.words.weight.data[11] += 1.0  # a word that is not read
    assert (before != model(torch.tensor([[3]]))[0]).flatten().nonzero().tolist() == [[11]]


def test_without_dropout_it_is_torch_s_lstm():
    model = AWDLSTM(20, SMALL).eval()
    words = torch.randint(20, (3, 7), generator=generator(0, 1))
    hidden = model.words(words)
    for layer in model.layers:
        hidden, _ = layer(hidden)
    torch.testing.assert_close(model(words)[0], F.linear(hidden, model.words.weight, model.decoder_bias))


def test_a_dropout_mask_is_locked_over_time_and_differs_between_sequences():
    torch.manual_seed(0)
    dropped = locked_dropout(torch.ones(4, 6, 50), rate=0.4, training=True)
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert len(torch.unique(dropped[:, 0], dim=0)) == 4
    torch.testing.assert_close(dropped.unique(), torch.tensor([0.0, 1 / 0.6]))


def test_a_dropped_word_is_dropped_wherever_it_occurs():
    torch.manual_seed(0)
    model = AWDLSTM(20, dataclasses.replace(SMALL, word_dropout=0.5))
    words = torch.arange(20).repeat(3, 2)
    kept = (model._embed(words) != 0).all(dim=2)
    assert torch.equal(kept, kept[:1, :20].repeat(3, 2))
    assert 0 < kept[0, :20].sum() < 20


def test_half_of_the_recurrent_weights_take_no_part_in_a_training_step():
    torch.manual_seed(0)
    model = AWDLSTM(20, SMALL)
    words = torch.randint(20, (3, 7), generator=generator(0, 1))
    model(words)[0].square().sum().backward()
    shares = [(layer.weight_hh_l0.grad == 0).float().mean().item() for layer in model.layers]
    assert shares == pytest.approx([0.5] * 3, abs=0.1)  # of 256 to 576 weights: four standard errors


def test_the_lstm_has_second_derivatives():
    model = AWDLSTM(20, SMALL)
    words = torch.randint(20, (3, 7), generator=generator(0, 1))
    params = list(model.parameters())
    gradients = torch.autograd.grad(model(words)[0].square().sum(), params, create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in gradients), params)
    assert all(g.isfinite().all() and g.any() for g in second)


# --- the Transformer -------------------------------------------------------------------------------------------------


def test_the_transformer_sees_no_word_that_is_still_to_come():
    model = StartRequest(seed=0).built(lambda: TransformerModel(20)).eval()
    words = torch.randint(20, (2, CONTEXT), generator=generator(0, 1))
    changed = words.clone()
    changed[:, 10:] = 0
    torch.testing.assert_close(model(words)[:, :10], model(changed)[:, :10], rtol=0, atol=1e-6)
    assert not torch.equal(model(words)[:, 10:], model(changed)[:, 10:])


def test_the_transformer_is_random_in_training_and_not_in_evaluation():
    model = StartRequest(seed=0).built(lambda: TransformerModel(20))
    words = torch.zeros(2, 5, dtype=torch.long)
    assert not torch.equal(model(words), model(words))
    model.eval()
    assert torch.equal(model(words), model(words))


# --- GPT-2 -----------------------------------------------------------------------------------------------------------


def test_gpt2_small_has_124_439_808_parameters():
    pytest.importorskip("transformers")
    with torch.device("meta"):
        model = GPT2(50_257)
    assert sum(param.numel() for param in model.parameters()) == 124_439_808


def test_text_is_cut_into_the_tokens_that_transformers_makes_of_it_and_none_is_lost(data_dir):
    from transformers import GPT2Tokenizer

    vocab = json.loads((data_dir / "gpt2" / "vocab.json").read_text())
    merges = [tuple(line.split()) for line in (data_dir / "gpt2" / "merges.txt").read_text().splitlines()[1:]]
    theirs = GPT2Tokenizer(vocab=vocab, merges=merges)
    ours = read_tokenizer(data_dir)
    encoded = encode_lines(ours, wikitext_lines("test"))
    for line, tokens in zip(wikitext_lines("test"), encoded, strict=True):
        assert theirs(file_text([line]))["input_ids"] == tokens
    joined = ours.decode([token for line in encoded for token in line])
    assert joined == (data_dir / "wikitext-2-raw" / "wiki.test.raw").read_text(encoding="utf-8")


def test_a_tokenizer_json_will_do_too(data_dir, tmp_path):
    read_tokenizer(data_dir).save(str(tmp_path / "tokenizer.json"))
    lines = wikitext_lines("test")
    assert encode_lines(read_tokenizer(tmp_path), lines) == encode_lines(read_tokenizer(data_dir), lines)


def test_a_vocabulary_without_an_end_of_text_is_refused(data_dir, tmp_path):
    vocab = json.loads((data_dir / "gpt2" / "vocab.json").read_text())
    del vocab["<|endoftext|>"]
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_text((data_dir / "gpt2" / "merges.txt").read_text())
    with pytest.raises(LabError, match=r"vocab.json must have the token <\|endoftext\|>"):
        read_tokenizer(tmp_path)


def test_a_vocabulary_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(LabError, match=r"tokenizer\.json cannot be read"):
        read_tokenizer(tmp_path)


def test_the_perplexity_of_gpt2_is_a_word_s_and_its_loss_a_token_s(data_dir):
    workload = TokenWorkload(info=WORKLOADS["wikitext2_gpt2"].info, context=32, config={"n_layer": 1, "n_embd": 12})
    problem = workload.start(StartRequest(seed=0, data_dir=data_dir, batch_size=2))
    nn.init.zeros_(problem.model.gpt2.lm_head.weight)  # and with it the word vectors
    corpus = read_tokens(WIKITEXT2_RAW, data_dir)
    num_words = len(line_words(wikitext_lines("test")))
    num_tokens = len(corpus.evaluated["test"].tokens)
    metrics = problem.evaluate("test")
    assert metrics["loss"] == pytest.approx(math.log(corpus.num_tokens), rel=1e-6)
    assert metrics["perplexity"] == pytest.approx(corpus.num_tokens ** (num_tokens / num_words), rel=1e-5)


def test_blocks_are_the_text_in_order_and_the_incomplete_last_one_is_left_out():
    inputs, targets = blocks(torch.arange(23), 5)
    assert inputs.tolist() == [list(range(start, start + 5)) for start in (0, 5, 10, 15)]
    assert torch.equal(targets, inputs + 1)


# --- whole workloads -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LANGUAGE_WORKLOADS)
def test_what_has_no_labels_has_no_label_noise(name, data_dir):
    with pytest.raises(LabError, match=f"label noise is for classification; {name} has none, got label_noise=0.1"):
        WORKLOADS[name].start(StartRequest(seed=0, data_dir=data_dir, label_noise=0.1))


@pytest.mark.parametrize("name", WORD_WORKLOADS)
def test_a_batch_of_more_columns_than_the_text_has_room_for_is_refused(name, data_dir):
    with pytest.raises(LabError, match=r"batch_size must be between 1 and the \d+ training examples, got 1000"):
        WORKLOADS[name].start(StartRequest(seed=0, data_dir=data_dir, batch_size=1000))


@pytest.mark.parametrize(
    ("name", "length"),
    [("ptb_lstm", 70), ("wikitext2_lstm", 20), ("ptb_transformer", 35), ("wikitext2_transformer", 35)],
)
def test_the_full_size_network_learns_in_three_real_steps(name, length, data_dir):
    torch.manual_seed(0)
    workload = dataclasses.replace(WORKLOADS[name], length=length)
    problem = workload.start(StartRequest(seed=0, data_dir=data_dir, batch_size=2))
    optimizer = torch.optim.AdamW(problem.model.parameters(), lr=1e-3)
    before, after = train(problem, optimizer, TrainingPlan(num_steps=3, eval_every=3))
    assert after.metrics["test_loss"] < before.metrics["test_loss"]
    assert after.metrics["test_perplexity"] == pytest.approx(math.exp(after.metrics["test_loss"]))


@pytest.mark.parametrize("name", ["ptb_lstm", "ptb_transformer"])
def test_dcao_measures_the_full_size_network_while_it_trains(name, data_dir):
    torch.manual_seed(0)
    workload = dataclasses.replace(WORKLOADS[name], length=5)
    problem = workload.start(StartRequest(seed=0, data_dir=data_dir, batch_size=2))
    optimizer = BASELINES["dcao:adamw"].build(problem, BuildRequest(lr=1e-3))
    *_, after = train(problem, optimizer, TrainingPlan(num_steps=2, eval_every=2))
    assert math.isfinite(after.metrics["test_loss"])
    assert after.gradient_evaluations > 2
    assert math.isfinite(optimizer.last_estimate.s)  # so short a text may curve downwards along the step


def test_a_run_of_a_full_size_workload_is_stored_like_any_other(data_dir, tmp_path):
    config = RunConfig(
        workload="wikitext2_transformer",
        optimizer="dcao:adamw",
        lr=1e-3,
        seed=0,
        num_steps=4,
        eval_every=2,
        batch_size=2,
    )
    store = RunStore(tmp_path)
    result = run(config, store, RunPlace(data_dir=data_dir))
    assert result.outcome is Outcome.FINISHED
    assert {point.step for point in load(config, store).points} == {0, 2, 4}
    assert result.final["test_perplexity"] == pytest.approx(math.exp(result.final["test_loss"]))


def test_gpt2_small_learns_in_two_real_steps(data_dir):
    torch.manual_seed(0)
    workload = TokenWorkload(info=WORKLOADS["wikitext2_gpt2"].info, context=32)  # 12 layers of width 768
    problem = workload.start(StartRequest(seed=0, data_dir=data_dir, batch_size=2))
    optimizer = torch.optim.AdamW(problem.model.parameters(), lr=2e-5)
    batch = next(problem.batches)

    def evaluation_loss():
        problem.model.eval()
        with torch.no_grad():
            loss = problem.loss(batch).item()
        problem.model.train()
        return loss

    before = evaluation_loss()
    assert before == pytest.approx(math.log(320), rel=0.1)  # small initial weights guess
    for _ in range(2):
        minimize(optimizer, lambda: problem.loss(batch))
    assert evaluation_loss() < before


def test_importing_the_workloads_imports_none_of_the_extra_s_packages():
    program = "import sys, dcao_lab.workloads; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    assert "dcao_lab.workloads.full_size.wikitext2_gpt2" in modules
    assert not {"transformers", "datasets", "tokenizers", "huggingface_hub"} & set(modules)
