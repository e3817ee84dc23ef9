// The pools, a row each.

sections.push({
  id: "pools",
  title: "Pools",
  draw(model, box) {
    const columns = ["used_bytes", "capacity_bytes", "limit_bytes", "count", "arenas", "heaps",
      "threads", "refills", "flushes", "remote_batches"];
    const head = columns.map((name) => ({name: name.replace("_bytes", "").replace("_", " "),
      help: helpOf(model, "pool", name)}));
    box.append(table("pools", [{name: "pool"}, ...head], model.metrics.pools.map((pool) =>
      el("tr", {"data-pool": pool.name}, el("td", null, pool.name), ...columns.map((name) =>
        el("td", {"data-metric": name, "data-value": pool[name] ?? "none"},
          (name.endsWith("_bytes") ? bytes : count)(pool[name] ?? null)))))));
  },
});
