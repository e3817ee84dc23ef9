// How long slow paths took: a row for each that was taken, with its histogram.

const slowBounds = Array.from({length: 24}, (_, i) => 512 * 2 ** i); // nanoseconds

function slowBuckets(path) {
  return [...slowBounds.map((bound) => path[`within_${bound}_ns`] || 0), path.beyond || 0];
}

function duration(nanoseconds) {
  const units = ["ns", "\u00b5s", "ms", "s"];
  let unit = 0;
  while (nanoseconds >= 1000 && unit + 1 < units.length) {
    nanoseconds /= 1000;
    unit++;
  }
  return `${nanoseconds.toFixed(nanoseconds < 10 && unit > 0 ? 1 : 0)} ${units[unit]}`;
}

// What that part of the calls took at most: the bound of a bucket.
function slowWithin(path, part) {
  let left = path.count * part;
  const bucket = slowBuckets(path).findIndex((calls) => (left -= calls) <= 0);
  const longest = slowBounds[slowBounds.length - 1];
  return bucket < 0 || bucket === slowBounds.length ? `over ${duration(longest)}`
    : duration(slowBounds[bucket]);
}

// A bar for each bucket, by the square root, so that few among many are seen.
function histogram(path, from, end) {
  const buckets = slowBuckets(path).slice(from, end);
  const most = Math.sqrt(Math.max(1, ...buckets));
  const bars = buckets.map((calls, i) => {
    const height = calls === 0 ? 0 : Math.max(2, 20 * Math.sqrt(calls) / most);
    return `M${i * 8} 22v${-height}h7v${height}z`;
  });
  return el("svg", {class: "spark", viewBox: `0 0 ${8 * buckets.length} 22`, role: "img",
    width: 8 * buckets.length, height: 22,
    "aria-label": `how many took how long, from ${duration(slowBounds[from] / 2)} on`},
  el("path", {d: bars.join("")}));
}

sections.push({
  id: "slow",
  title: "Slow paths",
  draw(model, box) {
    const paths = (model.metrics.slow || []).filter(({count}) => count > 0);
    if (paths.length === 0) {
      box.append(el("p", {class: "note"}, "None was taken so far."));
      return;
    }
    const used = paths.flatMap((path) => slowBuckets(path).flatMap((n, i) => n > 0 ? [i] : []));
    const from = Math.min(...used);
    const end = Math.max(...used) + 1;
    const first = from === 0 ? 0 : slowBounds[from - 1];
    const last = end > slowBounds.length ? "more" : duration(slowBounds[end - 1]);
    box.append(table("slow paths", [{name: "path"}, {name: "times"}, {name: "altogether"},
      {name: "half within"}, {name: "99 % within"},
      {name: `${duration(first)} to ${last}, doubling`, kind: "bars"}],
    paths.map((path) => el("tr", {"data-path": path.name},
      el("td", null, path.name.replaceAll("_", " ")),
      el("td", {"data-metric": "count", "data-value": path.count}, count(path.count)),
      el("td", {"data-metric": "total_ns", "data-value": path.total_ns}, duration(path.total_ns)),
      el("td", null, slowWithin(path, 0.5)), el("td", null, slowWithin(path, 0.99)),
      el("td", {class: "bars"}, histogram(path, from, end))))));
  },
});
