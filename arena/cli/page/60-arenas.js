// The arenas of all pools.

sections.push({
  id: "arenas",
  title: "Arenas",
  draw(model, box) {
    const columns = ["chunk_bytes", "slab_lent_bytes", "slab_free_bytes", "run_lent_bytes",
      "run_free_bytes", "run_dirty_bytes", "chunks", "slabs", "heaps", "contended"];
    const head = columns.map((name) => ({name: name.replace("_bytes", "").replace("_", " "),
      help: helpOf(model, "arena", name)}));
    const rows = model.metrics.pools.flatMap((pool) => (pool.arena || []).map((arena, index) =>
      el("tr", {"data-pool": pool.name, "data-arena": index},
        el("td", null, `${pool.name} ${index}`), ...columns.map((name) =>
          el("td", {"data-metric": name, "data-value": arena[name]},
            (name.endsWith("_bytes") ? bytes : count)(arena[name] ?? null))))));
    box.append(table("arenas", [{name: "arena"}, ...head], rows));
  },
});
