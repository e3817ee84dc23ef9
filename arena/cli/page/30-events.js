// What happened at the limit, and to the pools: counters, all of them and those of the last minute.

function eventRows(model) {
  const counters = model.tables.process.filter((metric) =>
    metric.kind === "counter" && !["allocations", "frees"].includes(metric.name));
  const rows = counters.map((metric) => ({name: metric.name, help: metric.help,
    now: model.metrics.process[metric.name] ?? 0, before: model.minute.process[metric.name] ?? 0}));
  for (const name of ["waits", "wait_failures", "chunk_maps", "chunk_unmaps", "purges",
    "contended"]) {
    rows.push({name: `pool_${name}`, help: helpOf(model, "pool", name),
      now: sum(model.metrics.pools, name), before: sum(model.minute.pools, name)});
  }
  return rows;
}

sections.push({
  id: "events",
  title: "Events and pressure",
  draw(model, box) {
    const seconds = Math.max(1, Math.round((model.at - model.minute.at) / 1000));
    box.append(el("p", {class: "note"}, `Since the start, and in the last ${seconds} s.`),
      el("ul", {class: "events"}, ...eventRows(model).map((row) =>
        el("li", {class: row.now > row.before ? "new" : null, title: row.help},
          el("span", null, row.name.replaceAll("_", " ")), figure(row.name, row.now, count),
          el("span", null, row.now > row.before ? `+${count(row.now - row.before)}` : "+0")))));
  },
});
