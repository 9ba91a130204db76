// Sample digits as pen strokes, as an alternative to drawing: points from 0 to 1, drawn like those of the pad.

const TURN = Math.PI / 180;

/** Returns a part of an ellipse; angles in degrees, clockwise from the right. */
function arc(x, y, rx, ry, from, to) {
  const steps = 24;
  return Array.from({ length: steps + 1 }, (_, i) => {
    const angle = (from + ((to - from) * i) / steps) * TURN;
    return [x + rx * Math.cos(angle), y + ry * Math.sin(angle)];
  });
}

/** One list of strokes per digit. */
export const SAMPLES = [
  [arc(0.5, 0.5, 0.23, 0.33, -80, 285)],
  [[[0.56, 0.15], [0.48, 0.5], [0.42, 0.85]]],
  [[...arc(0.5, 0.34, 0.2, 0.18, 190, 390), [0.5, 0.62], [0.3, 0.82], [0.5, 0.8], [0.74, 0.83]]],
  [[...arc(0.47, 0.33, 0.2, 0.17, 200, 440), ...arc(0.47, 0.66, 0.23, 0.18, 280, 510)]],
  [[[0.36, 0.18], [0.29, 0.5], [0.45, 0.54], [0.7, 0.5]], [[0.68, 0.2], [0.62, 0.5], [0.58, 0.85]]],
  [[[0.7, 0.18], [0.4, 0.18], [0.36, 0.46], ...arc(0.48, 0.63, 0.22, 0.19, 235, 505)]],
  [[[0.6, 0.14], [0.42, 0.34], ...arc(0.48, 0.66, 0.18, 0.18, 200, 560)]],
  [[[0.26, 0.22], [0.5, 0.2], [0.74, 0.21], [0.6, 0.5], [0.48, 0.85]]],
  [[...arc(0.5, 0.33, 0.16, 0.16, -40, -270), ...arc(0.5, 0.67, 0.19, 0.18, -90, 270), [0.62, 0.44], [0.64, 0.26]]],
  [[...arc(0.48, 0.34, 0.18, 0.18, -10, -370), [0.64, 0.56], [0.58, 0.86]]],
];
