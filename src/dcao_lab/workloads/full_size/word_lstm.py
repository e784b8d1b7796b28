"""Penn Treebank and WikiText-2 with the AWD-LSTM (Merity, Keskar and Socher, ICLR 2018): two workloads.

Their recipes have 500 epochs of batches of 20 by 70 words, and 750 epochs of batches of 80 by 70.
salesforce/awd-lstm-lm then reports validation perplexities of 61.2 and 68.7 before fine-tuning (58.8 and 65.6 on the
test text). The parts of the recipes that belong to the optimizer or the loss and not to the network are left out:
averaged SGD, clipped gradients, activation regularisation and a weight decay of 1.2e-6. The targets allow for that.
"""

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.data.corpora import PTB, WIKITEXT2
from dcao_lab.workloads.language_workload import WordWorkload
from dcao_lab.workloads.networks.awd_lstm import AWDLSTM, LSTMShape

LENGTH = 70
PTB_BATCH, PTB_EPOCH = 20, 663  # 929 589 words
WIKITEXT2_BATCH, WIKITEXT2_EPOCH = 80, 372  # 2 088 628 words
WIKITEXT2_SHAPE = LSTMShape(input_dropout=0.65, hidden_dropout=0.2)

PTB_INFO = WorkloadInfo(
    name="ptb_lstm",
    title="Penn Treebank LSTM",
    summary=f"Penn Treebank by word, AWD-LSTM of 24.2 M parameters, {LENGTH} words at a time, batch {PTB_BATCH}",
    metric="perplexity",
    higher_is_better=False,
    target=70.0,
    batch_size=PTB_BATCH,
    num_steps=500 * PTB_EPOCH,
    eval_every=PTB_EPOCH,
    step_cost=3700.0,
    needs=PTB.needs,
)
WIKITEXT2_INFO = WorkloadInfo(
    name="wikitext2_lstm",
    title="WikiText-2 LSTM",
    summary=f"WikiText-2 by word, AWD-LSTM of 33.6 M parameters, {LENGTH} words at a time, batch {WIKITEXT2_BATCH}",
    metric="perplexity",
    higher_is_better=False,
    target=80.0,
    batch_size=WIKITEXT2_BATCH,
    num_steps=750 * WIKITEXT2_EPOCH,
    eval_every=WIKITEXT2_EPOCH,
    step_cost=18_000.0,
    needs=WIKITEXT2.needs,
)

WORKLOADS = (
    WordWorkload(
        info=PTB_INFO,
        source=PTB,
        build=lambda num_words: AWDLSTM(num_words, LSTMShape()),
        length=LENGTH,
        is_recurrent=True,
    ),
    WordWorkload(
        info=WIKITEXT2_INFO,
        source=WIKITEXT2,
        build=lambda num_words: AWDLSTM(num_words, WIKITEXT2_SHAPE),
        length=LENGTH,
        is_recurrent=True,
    ),
)
