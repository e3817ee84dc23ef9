// How much of the limit is taken, and by what.

function rateOf(model, name) {
  const series = model.series.findIndex((one) => one.name === name) + 1;
  const [before, last] = model.points.slice(-2);
  if (!last || last[series] < before[series]) {
    return 0;
  }
  return (last[series] - before[series]) * 1000 / (last[0] - before[0]);
}

function tile(model, name, label, value, format, bad) {
  return el("div", {class: bad ? "tile bad" : "tile", title: helpOf(model, "process", name)},
    el("div", {class: "value"}, figure(name, value, format)), el("div", {class: "label"}, label));
}

function gauge(process) {
  const whole = process.limit_bytes === null
    ? Math.max(process.limit_peak_bytes, process.limit_used_bytes, 1) : process.limit_bytes;
  const live = Math.min(process.live_high_bytes, process.limit_used_bytes);
  const share = process.limit_used_bytes / whole;
  const parts = [["live", live], ["rest", process.limit_used_bytes - live]].map(([name, part]) => {
    const bar = el("i", {class: name});
    bar.style.width = `${Math.min(100, 100 * part / whole)}%`;
    return bar;
  });
  const percent = `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
  const full = process.limit_bytes !== null && share >= 0.95;
  const bar = el("div", {class: full ? "bar full" : "bar", role: "meter", "aria-valuemin": 0,
    "aria-valuemax": whole, "aria-valuenow": process.limit_used_bytes,
    "aria-label": "charged to the limit"}, ...parts);
  const rest = process.limit_bytes === null
    ? el("span", null, "no limit is set; the bar ends at the peak, ",
      figure("limit_peak_bytes", process.limit_peak_bytes, bytes))
    : el("span", null, el("i", {class: "swatch room"}), "room ",
      el("b", null, bytes(Math.max(0, process.limit_bytes - process.limit_used_bytes))), ", limit ",
      figure("limit_bytes", process.limit_bytes, bytes), ", peak ",
      figure("limit_peak_bytes", process.limit_peak_bytes, bytes));
  return el("div", {id: "gauge"}, bar, el("div", {class: "key"},
    el("span", null, el("i", {class: "swatch live"}), "held by the program, at most"),
    el("span", null, el("i", {class: "swatch rest"}), "kept for later"), rest,
    el("span", null, process.limit_bytes === null ? "of the peak: " : "of the limit: ",
      el("b", {id: "share"}, percent))));
}

sections.push({
  id: "limit",
  title: "Limit",
  draw(model, box) {
    const process = model.metrics.process;
    box.append(gauge(process), el("div", {class: "tiles"},
      tile(model, "limit_used_bytes", "charged to the limit", process.limit_used_bytes, bytes),
      tile(model, "live_high_bytes", "held by the program", process.live_high_bytes, bytes),
      tile(model, "mapped_bytes", "mapped by berth", process.mapped_bytes, bytes),
      tile(model, "resident_bytes", "resident, whole process", model.resident_bytes, bytes),
      tile(model, "allocations", "allocations", rateOf(model, "allocations"), rate),
      tile(model, "frees", "frees", rateOf(model, "frees"), rate),
      tile(model, "failures", "requests failed", process.failures, count, process.failures > 0)));
  },
});
