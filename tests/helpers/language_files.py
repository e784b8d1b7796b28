"""Small corpora in the files that Penn Treebank, WikiText-2 and GPT-2's vocabulary really come in."""

import random
import zipfile

import pyarrow
import pyarrow.parquet

WORDS = ("the", "<unk>", "N", "of", "company", "shares", "said", "market", "@-@", "year", "n't", ",", "a", "in")
WEIGHTS = [1 / rank for rank in range(1, len(WORDS) + 1)]  # Zipf: frequencies are what three steps can learn
PTB_NAMES = {"train": "train", "validation": "valid", "test": "test"}
LINES = {"train": 120, "validation": 25, "test": 20}


def ptb_lines(split):
    """Lines of 3 to 20 words; the training text has every word."""
    draw = random.Random(f"ptb {split}")
    lines = [" ".join(draw.choices(WORDS, WEIGHTS, k=draw.randint(3, 20))) for _ in range(LINES[split])]
    return [*lines, " ".join(WORDS)] if split == "train" else lines


def wikitext_lines(split):
    """Articles: an empty line, a title, an empty line, paragraphs with text beyond ASCII."""
    lines = []
    for number, line in enumerate(ptb_lines(split)):
        if number % 10 == 0:
            lines += ["", f"= Article {'the' if number % 20 else 'of'} =", ""]
        lines.append(f"{line} — é .")
    return lines


def file_text(lines):
    """As in the original files: a space on either side of a line; an empty one is a single space."""
    return "".join(f" {line} \n" if line else " \n" for line in lines)


def write_ptb(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for split, name in PTB_NAMES.items():
        (folder / f"ptb.{name}.txt").write_text(file_text(ptb_lines(split)), encoding="utf-8")
    return folder


def write_wikitext(folder, ending="tokens"):
    folder.mkdir(parents=True, exist_ok=True)
    for split, name in PTB_NAMES.items():
        (folder / f"wiki.{name}.{ending}").write_text(file_text(wikitext_lines(split)), encoding="utf-8")
    return folder


def write_wikitext_zip(path, inside="wikitext-2", ending="tokens"):
    with zipfile.ZipFile(path, "w") as archive:
        for split, name in PTB_NAMES.items():
            archive.writestr(f"{inside}/wiki.{name}.{ending}", file_text(wikitext_lines(split)))


def write_parquet(path, column, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table({column: rows}), path)
    return path


def write_hub_wikitext(folder):
    """As on the hub: line feeds are kept, empty lines are empty."""
    for split in LINES:
        rows = [f" {line} \n" if line else "" for line in wikitext_lines(split)]
        write_parquet(folder / f"{split}-00000-of-00001.parquet", "text", rows)


def write_bpe(folder, num_tokens=320):
    """``vocab.json`` and ``merges.txt`` of a small vocabulary, in GPT-2's format."""
    import tokenizers

    tokenizer = tokenizers.ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        [file_text(wikitext_lines("train"))],
        vocab_size=num_tokens,
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    tokenizer.save_model(str(folder))
    return folder
