"""Makes the exports of small PyTorch models in tests/data/onnx_cases, by both of its exporters.

Needs numpy, onnx, onnxruntime, onnxscript, torch and transformers. Each folder gets model.onnx, and
inK.npz and outK.npz for several batches and lengths, as ONNX Runtime answers; torch.tsv lists the
folders. The weights are random. Run: python tests/onnx/make_torch_cases.py
"""

import os
import pathlib
import tempfile

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from transformers import BertConfig, BertModel, CLIPConfig, CLIPModel

FOLDER = pathlib.Path(__file__).parent.parent / "data" / "onnx_cases"
HEADER = "name\treported\tsituation\tverdict before\trtol\tatol"
VOCABULARY = 40
WIDTH = 8
IMAGE = 16

torch.manual_seed(3)
random = np.random.default_rng(3)
cases = []


def case(name, path, situation, samples):
    """Stores a file, and the answers of ONNX Runtime to the samples."""
    model = onnx.load(path)
    model.producer_version = ""
    del model.metadata_props[:]
    for item in [*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output]:
        item.doc_string = ""
        del item.metadata_props[:]
    folder = FOLDER / f"torch_{name}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    session = onnxruntime.InferenceSession(model.SerializeToString())
    ports = [port.name for port in session.get_outputs()]
    wanted = [port.name for port in session.get_inputs()]
    for at, sample in enumerate(samples):
        given = {key: value for key, value in sample.items() if key in wanted}
        np.savez_compressed(folder / f"in{at}.npz", **given)
        np.savez_compressed(folder / f"out{at}.npz", **dict(zip(ports, session.run(ports, given))))
    cases.append(f"torch_{name}\ttorch.onnx.export\t{situation}\tfail\t0.001\t0.0001")


def export(name, model, situation, example, axes, outputs, samples, script=True):
    """Exports by TorchScript, if it keeps axes open, and by torch.export. `axes` maps names to open
    axes."""
    model = model.eval()
    path = os.path.join(tempfile.mkdtemp(), "model.onnx")
    arguments = tuple(torch.tensor(value) for value in example.values())
    if script:
        torch.onnx.export(
            model, arguments, path, input_names=list(example), output_names=outputs,
            dynamic_axes=axes, opset_version=17, dynamo=False,
        )
        case(name, path, situation, samples)
    shapes = tuple({axis: torch.export.Dim.DYNAMIC for axis in axes[key]} for key in example)
    torch.onnx.export(
        model, arguments, path, input_names=list(example), output_names=outputs,
        dynamic_shapes=shapes, dynamo=True, external_data=False,
    )
    case(f"{name}_dynamo", path, situation, samples)


def tokens(batch, length, padded=True):
    """Token numbers, the largest of a row at its end, and the mask of those that count."""
    ids = random.integers(1, VOCABULARY - 1, (batch, length))
    mask = np.ones((batch, length), np.int64)
    for row in range(batch if padded else 0):
        mask[row, random.integers(1, length + 1):] = 0
    ids[np.arange(batch), mask.sum(axis=1) - 1] = VOCABULARY - 1
    return {"input_ids": ids * mask, "attention_mask": mask}


class Bert(torch.nn.Module):
    """The mean of the last states of tokens that count, as in sentence transformers."""

    def __init__(self):
        super().__init__()
        self.bert = BertModel(BertConfig(
            vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=WIDTH, max_position_embeddings=16,
        ), add_pooling_layer=False)

    def forward(self, input_ids, attention_mask):
        states = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(mean, dim=-1)


class Clip(torch.nn.Module):
    """Texts against images: two batches in one graph."""

    def __init__(self):
        super().__init__()
        layer = {
            "hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": 1,
            "num_attention_heads": 2,
        }
        text = {**layer, "vocab_size": VOCABULARY, "max_position_embeddings": 16,
                "eos_token_id": VOCABULARY - 1, "bos_token_id": 0}
        self.clip = CLIPModel(CLIPConfig(
            text_config=text, projection_dim=WIDTH,
            vision_config={**layer, "image_size": IMAGE, "patch_size": 8},
        ))

    def forward(self, input_ids, pixel_values, attention_mask):
        found = self.clip(input_ids=input_ids, pixel_values=pixel_values, attention_mask=attention_mask)
        return found.logits_per_image, found.logits_per_text, found.text_embeds, found.image_embeds


class Last(torch.nn.Module):
    """The state of the last token of each text, by its place."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.gru = torch.nn.GRU(WIDTH, WIDTH, batch_first=True)

    def forward(self, input_ids):
        states, _ = self.gru(self.embedding(input_ids))
        rows = torch.arange(input_ids.shape[0], device=input_ids.device)
        return states[rows, input_ids.argmax(dim=-1)]


class Encoder(torch.nn.Module):
    def __init__(self, batch_first):
        super().__init__()
        layer = torch.nn.TransformerEncoderLayer(WIDTH, 2, 2 * WIDTH, batch_first=batch_first)
        self.encoder = torch.nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, x):
        return self.encoder(x)


TEXT = {0: "batch", 1: "sequence"}
SIZES = [(1, 4), (3, 5), (1, 5), (5, 4), (2, 9)]
texts = [tokens(*size) for size in SIZES]
export("sentence", Bert(), "a sentence transformer: texts of unequal lengths, padded",
       tokens(2, 6), {"input_ids": TEXT, "attention_mask": TEXT, "y": {0: "batch"}}, ["y"], texts)
plain = str(FOLDER / "torch_sentence" / "model.onnx")
quantised = os.path.join(tempfile.mkdtemp(), "model.onnx")
quantize_dynamic(plain, quantised, weight_type=QuantType.QInt8)
case("sentence_int8", quantised, "quantize_dynamic: scales over all rows of a batch", texts)

pictures = lambda count: random.normal(size=(count, 3, IMAGE, IMAGE)).astype(np.float32)
both = lambda batch, length, images: {
    **tokens(batch, length), "pixel_values": pictures(images)
}
order = ["input_ids", "pixel_values", "attention_mask"]
example = both(2, 6, 3)
export("clip", Clip(), "texts and images in two batches of unequal lengths",
       {key: example[key] for key in order},
       {"input_ids": TEXT, "attention_mask": TEXT, "pixel_values": {0: "images"},
        "a": {0: "images", 1: "batch"}, "b": {0: "batch", 1: "images"}, "c": {0: "batch"},
        "d": {0: "images"}},
       ["a", "b", "c", "d"], [both(1, 4, 1), both(3, 5, 2), both(2, 4, 2), both(1, 6, 4)])
export("last_state", Last(), "x[arange(batch), argmax]: each row by its own number",
       {"input_ids": tokens(2, 6)["input_ids"]}, {"input_ids": TEXT, "y": {0: "batch"}}, ["y"], texts)
line = lambda *shape: {"x": random.normal(size=shape).astype(np.float32)}
for first, name in [(True, "encoder"), (False, "encoder_time_first")]:
    export(name, Encoder(first), "a transformer encoder", line(3, 5, WIDTH),
           {"x": {0: "a", 1: "b"}, "y": {0: "a", 1: "b"}}, ["y"],
           [line(1, 4, WIDTH), line(3, 4, WIDTH), line(4, 3, WIDTH), line(2, 2, WIDTH)], script=False)

(FOLDER / "torch.tsv").write_text("\n".join([HEADER, *cases]) + "\n")
