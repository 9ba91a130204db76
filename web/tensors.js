// V2 requests created from a model's metadata.

const BYTES_OF = { BOOL: 1, UINT8: 1, INT8: 1, UINT16: 2, INT16: 2, FP16: 2, BF16: 2, UINT32: 4, INT32: 4, FP32: 4, UINT64: 8, INT64: 8, FP64: 8 };
const MOST_ZEROS = 20_000;

const product = (shape) => shape.reduce((all, length) => all * length, 1);

/** Returns true if a model takes one whole file, such as an image, instead of tensors. */
export const takesFile = ({ inputs }) => inputs.length === 1 && inputs[0].datatype === "BYTES" && inputs[0].shape.join() === "-1,1";

/** Returns one row of zeros; open dimensions are 1. */
export function zeros({ inputs }) {
  const tensors = inputs.map(({ name, datatype, shape }) => {
    const fixed = shape.map((length) => (length < 0 ? 1 : length));
    return { name, datatype, shape: fixed, data: zeroData(datatype, product(fixed)) };
  });
  return JSON.stringify({ inputs: tensors }, null, 1).replace(/\n\s+(?=(-?\d|"",?\n|false|\]))/g, " ");
}

function zeroData(datatype, length) {
  if (length > MOST_ZEROS) return [];
  const zero = datatype === "BYTES" ? "" : datatype === "BOOL" ? false : 0;
  return Array(length).fill(zero);
}

/** Returns the shape for a file of this length: an open dimension takes the rest, or else the rows. */
export function shapeOf({ name, datatype, shape }, length) {
  const width = BYTES_OF[datatype];
  if (!width) throw new Error(`${name} has datatype ${datatype}, which cannot be sent as a file`);
  const free = shape.findLastIndex((size) => size < 0);
  const others = product(shape.map((size) => (size < 0 ? 1 : size)));
  const rest = length / (width * others);
  if (!Number.isInteger(rest) || rest === 0 || (free < 0 && rest !== 1)) {
    throw new Error(`the file has ${length} bytes; ${name} takes ${free < 0 ? "" : "multiples of "}${width * others}`);
  }
  return shape.map((size, at) => (at === free ? rest : size < 0 ? 1 : size));
}

/** Returns body and headers of a request with one binary tensor after its JSON. */
export function binaryRequest(input, bytes) {
  const tensor = { name: input.name, datatype: input.datatype, shape: shapeOf(input, bytes.byteLength), parameters: { binary_data_size: bytes.byteLength } };
  const json = new TextEncoder().encode(JSON.stringify({ inputs: [tensor] }));
  const headers = { "inference-header-content-length": String(json.byteLength), "content-type": "application/octet-stream" };
  return { body: new Blob([json, bytes]), headers };
}
