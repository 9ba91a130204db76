// Converts a drawing into the form of the training data, as in MNIST: light ink on dark paper, the
// ink scaled to 20×20 and its centre of mass in the middle of 28×28.

export const SIDE = 28;
const BOX = 20;
const PEN = 2.6; // of 28: the width of MNIST's strokes, whatever size was drawn
const FINE = 4; // scale of the drawing before it is averaged, so that edges are soft as in MNIST
const SMALLEST = 0.15; // of the pad: a dot is not enlarged

/** Returns 784 bytes for `strokes`, which are lists of points with `x` and `y` from 0 to 1. */
export function fromStrokes(strokes) {
  const fit = fitted(strokes);
  const first = rasterised(strokes, fit);
  const { x, y } = centreOfMass(first);
  return rasterised(strokes, { ...fit, dx: SIDE / 2 - x, dy: SIDE / 2 - y });
}

function fitted(strokes) {
  const points = strokes.flat();
  const range = (values) => [Math.min(...values), Math.max(...values)];
  const [left, right] = range(points.map(({ x }) => x));
  const [top, bottom] = range(points.map(({ y }) => y));
  const scale = (BOX - PEN) / Math.max(right - left, bottom - top, SMALLEST);
  return { scale, middleX: (left + right) / 2, middleY: (top + bottom) / 2, dx: 0, dy: 0 };
}

function rasterised(strokes, { scale, middleX, middleY, dx, dy }) {
  const context = paper(SIDE * FINE);
  context.strokeStyle = "#fff";
  context.lineCap = context.lineJoin = "round";
  context.lineWidth = PEN * FINE;
  const place = ({ x, y }) => [((x - middleX) * scale + SIDE / 2 + dx) * FINE, ((y - middleY) * scale + SIDE / 2 + dy) * FINE];
  for (const stroke of strokes) drawStroke(context, stroke.map(place));
  return averaged(context.getImageData(0, 0, SIDE * FINE, SIDE * FINE).data);
}

/** Draws a stroke; a tap is a line to the same point with a round cap. */
export function drawStroke(context, points) {
  context.beginPath();
  context.moveTo(...points[0]);
  for (const point of points.length > 1 ? points.slice(1) : points) context.lineTo(...point);
  context.stroke();
}

export function paper(side) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#000";
  context.fillRect(0, 0, side, side);
  return context;
}

function averaged(rgba) {
  const bytes = new Uint8Array(SIDE * SIDE);
  for (let at = 0; at < bytes.length; at++) {
    const x = (at % SIDE) * FINE;
    const y = Math.floor(at / SIDE) * FINE;
    let sum = 0;
    for (let i = 0; i < FINE * FINE; i++) sum += rgba[((y + Math.floor(i / FINE)) * SIDE * FINE + x + (i % FINE)) * 4];
    bytes[at] = Math.round(sum / FINE ** 2);
  }
  return bytes;
}

function centreOfMass(bytes) {
  let [sum, x, y] = [0, 0, 0];
  bytes.forEach((ink, at) => {
    sum += ink;
    x += ink * ((at % SIDE) + 0.5);
    y += ink * (Math.floor(at / SIDE) + 0.5);
  });
  return sum ? { x: x / sum, y: y / sum } : { x: SIDE / 2, y: SIDE / 2 };
}

// ---- Images

/** Returns an image of 28×28 unchanged; others are scaled like a drawing. */
export async function fromImage(file) {
  const image = await createImageBitmap(file);
  const ready = image.width === SIDE && image.height === SIDE;
  const grey = inkOf(image, ready ? SIDE : 200);
  return ready ? grey.bytes : centred(grey);
}

function inkOf(image, side) {
  const context = paper(side);
  const scale = side / Math.max(image.width, image.height);
  const [width, height] = [image.width * scale, image.height * scale];
  context.fillStyle = "#fff";
  if (image.width !== image.height) context.fillRect(0, 0, side, side);
  context.drawImage(image, (side - width) / 2, (side - height) / 2, width, height);
  const { data } = context.getImageData(0, 0, side, side);
  const bytes = Uint8Array.from({ length: side * side }, (_, at) => Math.round(0.3 * data[at * 4] + 0.59 * data[at * 4 + 1] + 0.11 * data[at * 4 + 2]));
  return { side, bytes: isLight(bytes) ? bytes.map((value) => 255 - value) : bytes };
}

/** Returns true for a light background, which is the most frequent brightness. */
function isLight(bytes) {
  return bytes.reduce((sum, value) => sum + value, 0) / bytes.length > 127;
}

function centred({ side, bytes }) {
  const inked = [...bytes.keys()].filter((at) => bytes[at] > 100);
  if (inked.length === 0) throw new Error("this image is blank");
  const [columns, rows] = [inked.map((at) => at % side), inked.map((at) => Math.floor(at / side))];
  const [left, top] = [columns.reduce((a, b) => Math.min(a, b)), rows.reduce((a, b) => Math.min(a, b))];
  const [width, height] = [columns.reduce((a, b) => Math.max(a, b)) - left + 1, rows.reduce((a, b) => Math.max(a, b)) - top + 1];
  const source = asCanvas(side, bytes);
  const box = [left, top, width, height];
  const { x, y } = centreOfMass(placed(source, box, 0, 0));
  return placed(source, box, SIDE / 2 - x, SIDE / 2 - y);
}

function placed(source, [left, top, width, height], dx, dy) {
  const scale = BOX / Math.max(width, height);
  const context = paper(SIDE);
  context.imageSmoothingQuality = "high";
  context.drawImage(source, left, top, width, height, (SIDE - width * scale) / 2 + dx, (SIDE - height * scale) / 2 + dy, width * scale, height * scale);
  const { data } = context.getImageData(0, 0, SIDE, SIDE);
  return Uint8Array.from({ length: SIDE * SIDE }, (_, at) => data[at * 4]);
}

export function asCanvas(side, bytes) {
  const context = paper(side);
  const image = context.getImageData(0, 0, side, side);
  bytes.forEach((ink, at) => image.data.fill(ink, at * 4, at * 4 + 3));
  context.putImageData(image, 0, 0);
  return context.canvas;
}
