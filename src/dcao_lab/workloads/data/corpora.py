"""The text corpora of the full-size language workloads."""

from dcao_lab.workloads.base import SplitName
from dcao_lab.workloads.data.textfiles import HubFiles, TextSource


def _original(pattern: str, validation: str = "valid") -> dict[SplitName, str]:
    return {"train": pattern.format("train"), "validation": pattern.format(validation), "test": pattern.format("test")}


PTB = TextSource(
    needs="Penn Treebank as Mikolov has preprocessed it: ptb.{train,valid,test}.txt, or the hub's ptb_text_only",
    folders=("ptb", "penn", "simple-examples/data", "ptb_text_only", "penn_treebank"),
    files=_original("ptb.{}.txt"),
    archive=None,
    parquet=_original("penn_treebank/{}/0000.parquet", validation="validation"),
    hub=HubFiles(
        title="Penn Treebank",
        repository="ptb-text-only/ptb_text_only",
        kind="dataset",
        # Its main branch is a script, which `datasets` no longer runs; the hub keeps this conversion of it.
        revision="refs/convert/parquet",
        advice=(
            "put Mikolov's ptb.train.txt, ptb.valid.txt and ptb.test.txt (in simple-examples.tgz of his RNNLM page) "
            "into a folder and name it with --data-dir, or start once without it on a machine with a network"
        ),
    ),
)


def _wikitext2(kind: str, ending: str) -> TextSource:
    return TextSource(
        needs=f"WikiText-2: {kind}.zip or its wiki.{{train,valid,test}}.{ending}, or the hub's {kind}",
        folders=(kind.removesuffix("-v1"), kind, f"wikitext/{kind}"),
        files=_original(f"wiki.{{}}.{ending}"),
        archive=f"{kind}.zip",
        parquet=_original(f"{kind}/{{}}-00000-of-00001.parquet", validation="validation"),
        hub=HubFiles(
            title=f"WikiText-2 ({kind})",
            repository="Salesforce/wikitext",
            kind="dataset",
            advice=(
                f"put {kind}.zip or its files wiki.train.{ending}, wiki.valid.{ending} and wiki.test.{ending} into a "
                "folder and name it with --data-dir, or start once without it on a machine with a network"
            ),
        ),
    )


WIKITEXT2 = _wikitext2("wikitext-2-v1", "tokens")  # rare words are <unk>: 33 278 words are left
WIKITEXT2_RAW = _wikitext2("wikitext-2-raw-v1", "raw")  # the same text with all its words
