// Small blocks by size: where the memory is, and how full the slabs are.

const classesShown = {all: false, most: 12};

function classRows(model) {
  const rows = model.metrics.pools.flatMap((pool) => (pool.class || []).map((one) =>
    ({...one, pool: pool.name, lent: one.lent_blocks * one.size_bytes,
      free: one.free_blocks * one.size_bytes})));
  return rows.sort((a, b) => b.lent + b.free - a.lent - a.free || a.size_bytes - b.size_bytes);
}

function lentBar(row) {
  const whole = Math.max(1, row.lent + row.free);
  const lent = el("i", {class: "live"});
  lent.style.width = `${100 * row.lent / whole}%`;
  return el("div", {class: "bar", role: "meter", "aria-valuemin": 0, "aria-valuemax": whole,
    "aria-valuenow": row.lent, "aria-label": "part of its slabs that is lent"}, lent);
}

sections.push({
  id: "classes",
  title: "Size classes",
  draw(model, box) {
    const all = classRows(model);
    const rows = classesShown.all ? all : all.slice(0, classesShown.most);
    const severalPools = model.metrics.pools.length > 1;
    const help = (name) => helpOf(model, "class", name);
    box.append(table("size classes", [{name: "block", help: help("size_bytes")},
      ...severalPools ? [{name: "pool"}] : [], {name: "lent"}, {name: "free"},
      {name: "lent and free", kind: "share"}, {name: "blocks", help: help("lent_blocks")},
      {name: "slabs", help: help("slabs")}, {name: "allocations", help: help("allocations")},
      {name: "frees", help: help("frees")}],
    rows.map((row) => el("tr", {"data-size": row.size_bytes, "data-pool": row.pool},
      el("td", null, `${count(row.size_bytes)} B`),
      severalPools ? el("td", null, row.pool) : null,
      el("td", {"data-metric": "lent", "data-value": row.lent}, bytes(row.lent)),
      el("td", null, bytes(row.free)),
      el("td", {class: "share"}, lentBar(row)),
      el("td", {"data-metric": "lent_blocks", "data-value": row.lent_blocks},
        count(row.lent_blocks)),
      el("td", null, count(row.slabs)), el("td", null, count(row.allocations)),
      el("td", null, count(row.frees))))));
    if (all.length > classesShown.most) {
      const button = el("button", {type: "button", class: "toggle"},
        classesShown.all ? "Show the largest" : `Show all ${all.length}`);
      button.addEventListener("click", () => {
        classesShown.all = !classesShown.all;
        box.replaceChildren();
        this.draw(model, box);
      });
      box.append(button);
    }
  },
});
