// The picture that was sent to a model, with the places that it found.

const WIDEST = 720; // of the canvas; the page scales it down

/** Draws the picture and the places; returns false if the file is not a picture, or has no places. */
export async function drawPlaces(canvas, file, places) {
  if (!places) return false;
  let picture;
  try {
    picture = await createImageBitmap(file);
  } catch {
    return false;
  }
  const scale = Math.min(1, WIDEST / picture.width);
  canvas.width = Math.max(1, Math.round(picture.width * scale));
  canvas.height = Math.max(1, Math.round(picture.height * scale));
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  context.strokeStyle = "#e5484d";
  context.lineWidth = 1.5;
  for (const corners of cornersOf(places)) outline(context, corners.map(([x, y]) => [x * scale, y * scale]));
  return true;
}

/** Returns four corners for each place, from polygons or from boxes of left, top, right, bottom. */
function cornersOf({ data, shape }) {
  const size = shape.at(-1) === 2 ? 8 : 4;
  const all = Array.from({ length: Math.floor(data.length / size) }, (_, at) => data.slice(at * size, (at + 1) * size));
  if (size === 4) return all.map(([left, top, right, bottom]) => [[left, top], [right, top], [right, bottom], [left, bottom]]);
  return all.map((flat) => [0, 2, 4, 6].map((at) => [flat[at], flat[at + 1]]));
}

function outline(context, corners) {
  context.beginPath();
  for (const [x, y] of corners) context.lineTo(x, y);
  context.closePath();
  context.stroke();
}
