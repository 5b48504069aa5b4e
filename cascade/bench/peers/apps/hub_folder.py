"""*model folder* -> a folder as the hub has them: the network gives one output ``logits`` [batch, 2], nothing else.

Two labels, the unsafe logit and its negative: infinity takes a network with one for a reranker.
"""

import json
import shutil
import sys
from pathlib import Path

import onnx
from onnx import TensorProto, helper

MOST_TOKENS = 512  # that the backbone has positions for

source, target = map(Path, sys.argv[1:3])
manifest = json.loads((source / "manifest.json").read_text())
network = onnx.load(str(source / "model.onnx"))
graph = network.graph
shape = helper.make_tensor("bench_shape", TensorProto.INT64, [2], [-1, 1])
graph.initializer.append(shape)
graph.node.append(helper.make_node("Reshape", ["binary_logit", "bench_shape"], ["bench_unsafe"]))
graph.node.append(helper.make_node("Neg", ["bench_unsafe"], ["bench_safe"]))
graph.node.append(helper.make_node("Concat", ["bench_unsafe", "bench_safe"], ["logits"], axis=1))
del graph.output[:]
graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2]))
target.mkdir(parents=True, exist_ok=True)
onnx.save(network, str(target / "model.onnx"))
shutil.copy(source / "tokenizer.json", target / "tokenizer.json")
config = {
    "architectures": ["BertForSequenceClassification"],
    "model_type": "bert",
    "id2label": {"0": "unsafe", "1": "safe"},
    "label2id": {"unsafe": 0, "safe": 1},
    "max_position_embeddings": MOST_TOKENS,
    "pad_token_id": manifest["pad_id"],
}
tokenizer = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "model_max_length": MOST_TOKENS,
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
    "model_input_names": ["input_ids", "attention_mask"],
}
for name, content in {"config.json": config, "tokenizer_config.json": tokenizer}.items():
    (target / name).write_text(json.dumps(content, indent=1))
