// The convergence curve as SVG.

const WIDTH = 320;
const HEIGHT = 190;
const EDGE = { left: 50, right: 10, top: 10, bottom: 40 };

function part(name, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

// Round numbers from `least` to `most` or a little above, about `count` of them.
function ticks(most, count) {
  const rough = most / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const steps = Math.ceil(most / step - 1e-9);
  return Array.from({ length: steps + 1 }, (_, place) => place * step);
}

// points: [step, loss], at least one.
export function drawCurve(place, points) {
  const lastStep = Math.max(points.at(-1)[0], 1);
  const highest = Math.max(...points.map(([, loss]) => loss), 1e-6);
  const rows = ticks(highest, 4);
  const columns = ticks(lastStep, 5).filter((step) => Number.isInteger(step) && step <= lastStep);
  const x = (step) => EDGE.left + ((WIDTH - EDGE.left - EDGE.right) * step) / lastStep;
  const y = (loss) => HEIGHT - EDGE.bottom - ((HEIGHT - EDGE.top - EDGE.bottom) * loss) / rows.at(-1);
  const words = `Loss from ${points[0][1].toFixed(3)} to ${points.at(-1)[1].toFixed(3)} in ${points.at(-1)[0]} steps`;
  const svg = part("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": words });

  const digits = Math.max(0, Math.min(4, 1 - Math.floor(Math.log10(rows[1]) + 1e-9)));
  for (const loss of rows) {
    svg.append(
      part("line", { class: "grid", x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y(loss), y2: y(loss) }),
      part("text", { x: EDGE.left - 7, y: y(loss) + 4, "text-anchor": "end" }, loss.toFixed(digits)),
    );
  }
  for (const step of columns) {
    svg.append(part("text", { x: x(step), y: HEIGHT - EDGE.bottom + 16, "text-anchor": "middle" }, step));
  }
  const middle = (HEIGHT - EDGE.bottom + EDGE.top) / 2;
  const turned = { x: 0, y: 0, "text-anchor": "middle", transform: `translate(11 ${middle}) rotate(-90)` };
  svg.append(
    part("text", { x: (WIDTH + EDGE.left - EDGE.right) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, "step of the solver"),
    part("text", turned, "loss (nats)"),
    part("polyline", { class: "line", points: points.map(([step, loss]) => `${x(step)},${y(loss)}`).join(" ") }),
  );
  const few = points.length <= 30 ? points : [points[0], points.at(-1)];
  for (const [step, loss] of few) svg.append(part("circle", { class: "dot", cx: x(step), cy: y(loss), r: 3 }));
  const [step, loss] = points.at(-1);
  svg.append(part("circle", { class: "end", cx: x(step), cy: y(loss), r: 4.5 }));
  place.replaceChildren(svg);
}
