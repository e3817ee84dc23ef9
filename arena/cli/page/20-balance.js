// The balance through time: what is mapped, as areas that lie upon each other.

const chart = {width: 0, height: 0, left: 62, right: 10, top: 10, bottom: 24, at: null};

// A round number of bytes for the top of the scale, in a few steps.
function scale(most) {
  let unit = 1;
  while (most / unit >= 1024) {
    unit *= 1024;
  }
  const step = [1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000]
    .find((one) => one * unit * 4 >= most) * unit;
  return {step, top: Math.max(step, Math.ceil(most / step) * step)};
}

function classesOf(series) {
  const next = {};
  return series.filter((one) => one.group).map((one, index) => {
    next[one.group] = (next[one.group] ?? -1) + 1;
    return {...one, column: index + 1, colour: `${one.group}-${next[one.group]}`};
  });
}

function areas(points, parts, x, y) {
  let below = points.map(() => 0);
  return parts.map((part) => {
    const above = points.map((point, i) => below[i] + point[part.column]);
    const up = points.map((point, i) => `${x(point[0])},${y(above[i])}`);
    const down = points.map((point, i) => `${x(point[0])},${y(below[i])}`).reverse();
    below = above;
    return el("path", {class: part.colour, d: `M${up.join("L")}L${down.join("L")}Z`,
      "data-part": part.name});
  });
}

function axes(span, y, vertical) {
  const lines = [];
  for (let value = 0; value <= vertical.top; value += vertical.step) {
    lines.push(el("line", {class: "grid", x1: chart.left, x2: chart.width - chart.right,
      y1: y(value), y2: y(value)}),
    el("text", {x: chart.left - 6, y: y(value) + 4, "text-anchor": "end"}, bytes(value)));
  }
  const wide = chart.width - chart.left - chart.right;
  const marks = wide < 420 ? 2 : 4;
  for (let i = 0; i <= marks; i++) {
    const back = span * (1 - i / marks) / 1000;
    const name = back < 1 ? "now"
      : span < 120000 ? `-${Math.round(back)} s` : `-${(back / 60).toFixed(1)} min`;
    lines.push(el("text", {x: chart.left + wide * i / marks, y: chart.height - 6,
      "text-anchor": i === 0 ? "start" : i === marks ? "end" : "middle"}, name));
  }
  return lines;
}

function line(points, column, x, y, name) {
  return el("polyline", {class: name,
    points: points.map((point) => `${x(point[0])},${y(point[column])}`).join(" ")});
}

function legend(parts, more, point) {
  return el("ul", {class: "legend"}, ...parts.slice().reverse().map((part) =>
    el("li", {"data-part": part.name}, el("i", {class: `swatch ${part.colour}`}), part.label,
      el("b", {"data-value": point[part.column]}, bytes(point[part.column])))),
  ...more.map(({mark, label, column}) => el("li", null, el("i", {class: mark}), label,
    el("b", null, bytes(point[column])))));
}

function drawChart(model, box) {
  const points = model.points;
  const parts = classesOf(model.series);
  const column = (name) => model.series.findIndex((one) => one.name === name) + 1;
  const limit = column("limit_bytes");
  const resident = column("resident_bytes");
  const last = points[points.length - 1];
  const most = Math.max(...points.map((point) => Math.max(point[resident],
    parts.reduce((total, part) => total + point[part.column], 0))));
  const shown = last[limit] !== null && last[limit] < 2 * most;
  const vertical = scale(shown ? Math.max(most, last[limit]) : most);
  chart.width = Math.max(280, box.clientWidth);
  chart.height = chart.width < 560 ? 210 : 270;
  const span = Math.max(last[0] - points[0][0], 1000);
  const wide = chart.width - chart.left - chart.right;
  const high = chart.height - chart.top - chart.bottom;
  const x = (at) => (chart.left + wide * (1 - (last[0] - at) / span)).toFixed(1);
  const y = (value) => (chart.top + high * (1 - value / vertical.top)).toFixed(1) * 1;
  const svg = el("svg", {class: "chart", viewBox: `0 0 ${chart.width} ${chart.height}`,
    role: "img", "aria-label": "Mapped memory through time, by what it is used for"},
  ...axes(span, y, vertical), ...areas(points, parts, x, y),
  line(points, resident, x, y, "resident"));
  if (shown) {
    svg.append(el("line", {class: "limit", x1: chart.left, x2: chart.width - chart.right,
      y1: y(last[limit]), y2: y(last[limit])}),
    el("text", {class: "limit-name", x: chart.left + 6, y: y(last[limit]) - 4}, "limit"));
  }
  const at = chart.at === null ? last : points.reduce((best, point) =>
    Math.abs(point[0] - chart.at) < Math.abs(best[0] - chart.at) ? point : best);
  if (chart.at !== null) {
    svg.append(el("line", {class: "cursor", x1: x(at[0]), x2: x(at[0]), y1: chart.top,
      y2: chart.top + high}));
  }
  const more = [{mark: "dash", label: "resident (whole process)", column: resident}];
  if (last[limit] !== null) {
    more.push({mark: "line", label: "limit", column: limit});
  }
  const when = chart.at === null ? "now" : `at ${new Date(at[0]).toLocaleTimeString()}`;
  box.replaceChildren(svg, el("p", {class: "note"}, `Memory ${when}, from the top down:`),
    legend(parts, more, at));
}

// The box stays where it is when what is in it is drawn anew, so it is what takes note.
function followPointer(model, box) {
  const {points} = model;
  const last = points[points.length - 1][0];
  const point = (at) => {
    if (at !== chart.at) {
      chart.at = at;
      drawChart(model, box);
    }
  };
  box.onpointermove = (event) => {
    const place = box.querySelector("svg.chart").getBoundingClientRect();
    const x = (event.clientX - place.left) * chart.width / place.width;
    const across = (x - chart.left) / (chart.width - chart.left - chart.right);
    const inside = across >= 0 && across <= 1 && event.clientY <= place.bottom;
    point(inside ? last - (last - points[0][0]) * (1 - across) : null);
  };
  box.onpointerleave = () => point(null);
}

sections.push({
  id: "balance",
  title: "Balance",
  draw(model, box) {
    if (model.points.length < 2) {
      box.append(el("p", {class: "note"}, "The first points come in some seconds."));
      return;
    }
    drawChart(model, box);
    followPointer(model, box);
  },
});
